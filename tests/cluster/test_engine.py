"""The engine with workers in this process: it computes what this process does, whatever ends meanwhile."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial

import pytest

from cache import FeatureCache
from pipeline.cluster.board import Patience
from pipeline.cluster.crew import seats_of
from pipeline.cluster.engine import ClusterEngine, ray_engine
from pipeline.errors import BackboneError, OptionError
from pipeline.features.extract import extract
from pipeline.options import EngineOptions
from tests.cluster.conftest import BACKBONE
from tests.cluster.crews import HereCrew, Mortal, Poisoned, Stillborn

pytestmark = pytest.mark.usefixtures("one_thread")


def engine(**crew):
    return ClusterEngine(partial(HereCrew, **crew), Patience())


def test_rows_and_report_are_those_of_this_process(photos, options, assert_same):
    paths = photos(150)
    ours, seen = extract(paths, BACKBONE, options("ours")), []
    theirs = extract(paths, BACKBONE, options("theirs"), seen.append, engine=engine())
    assert_same("ours", "theirs")
    told = ("key", "columns", "photos", "unique", "duplicates", "reused", "written", "rejects", "extended", "left")
    assert {name: getattr(theirs, name) for name in told} == {name: getattr(ours, name) for name in told}
    assert theirs.runtime.startswith("2 workers on 1 machine: torch, batches of 8")
    told = {"start", "hash", "runtime", "read", "decode", "forward", "write", "compute", "stop"}
    assert told <= set(theirs.seconds)
    assert [step.done for step in seen] == [50, 100, 150] and {step.total for step in seen} == {150}


class Lingering(HereCrew):
    """Its workers take their time to go."""

    def __exit__(self, *raised):
        time.sleep(0.5)
        return super().__exit__(*raised)


def test_the_end_of_a_cluster_is_no_computing(photos, options):
    report = extract(photos(20), BACKBONE, options("theirs"), engine=ClusterEngine(Lingering, Patience()))
    assert report.seconds["stop"] >= 0.5
    parts = ("start", "hash", "runtime", "compute", "stop")
    assert sum(report.seconds[name] for name in parts) <= report.seconds["total"] + 1e-6


def test_the_same_command_again_computes_nothing_and_another_view_just_that(photos, options):
    paths, theirs = photos(20), options("theirs")
    assert extract(paths, BACKBONE, theirs, engine=engine()).written == 19
    again = extract(paths, BACKBONE, theirs, engine=engine())
    assert (again.written, again.reused) == (0, 19)
    more = extract(paths, BACKBONE, replace(theirs, views=("identity", "hflip")), engine=engine())
    assert (more.written, more.extended) == (19, 19)


def test_a_photo_that_ends_its_workers_is_rejected_and_the_rest_of_its_unit_kept(photos, options, assert_same):
    paths = photos(40, n17="poison")
    extract([path for path in paths if "poison" not in path.name], BACKBONE, options("ours"))
    report = extract(paths, BACKBONE, options("theirs"), engine=engine(kind=Poisoned))
    assert_same("ours", "theirs")
    reasons = {reject.path: reject.reason for reject in report.rejects}
    assert reasons.keys() == {paths[17], paths[-1]}
    assert reasons[paths[17]] == (
        "every worker that was given it ended, failed or hung (ended by signal 11); --rehash tries it again"
    )
    again = extract(paths, BACKBONE, options("theirs"), engine=engine(kind=Mortal))
    assert (again.written, len(again.rejects)) == (0, 2), "nothing is given out again"
    healed = extract(paths, BACKBONE, replace(options("theirs"), rehash=True), engine=engine())
    assert (healed.written, len(healed.rejects)) == (1, 1)


def test_workers_that_end_whatever_they_are_given_end_the_job(photos, options):
    with pytest.raises(BackboneError, match=r"units failed one after the other.*ended by signal 9"):
        extract(photos(40), BACKBONE, options("theirs"), engine=engine(kind=Mortal))


def test_a_backbone_that_cannot_start_ends_the_job_with_its_error(photos, options):
    paths = photos(4)
    with pytest.raises(OptionError, match=r"there is no runtime 'tensorrt'.*\(on "):
        extract(paths, BACKBONE, replace(options("theirs"), runtime="tensorrt"), engine=engine())
    with pytest.raises(BackboneError, match=r"workers end before they have their backbone; .* signal 4"):
        extract(paths, BACKBONE, options("theirs"), engine=engine(kind=Stillborn))


def test_a_worker_with_other_weights_is_refused(photos, options, monkeypatch):
    def other(setup):
        return HereCrew(replace(setup, backbone=replace(setup.backbone, weights="random:1")))

    with pytest.raises(BackboneError, match=r"has key [0-9a-f]{16}, expected [0-9a-f]{16}: other weights"):
        extract(photos(4), BACKBONE, options("theirs"), engine=ClusterEngine(other))
    assert FeatureCache(options("theirs").cache).verify().rows == 0


def test_without_ray_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"--engine ray needs Ray: pip install -r requirements-ray.txt"):
        ray_engine(EngineOptions(engine="ray"))


def node(name, alive=True, **resources):
    return {"NodeID": name, "Alive": alive, "Resources": resources}


def test_seats_are_gpus_where_there_are_any_else_machines():
    mixed = [node("a", CPU=64.0, GPU=8.0), node("b", CPU=32.0), node("c", alive=False, CPU=8.0, GPU=1.0)]
    seats = seats_of(mixed, None, "auto")
    assert {(seat.node, seat.cpus, seat.gpus) for seat in seats} == {("a", 8.0, 1.0)}
    assert [seat.share for seat in seats] == [(i, 8) for i in range(8)]
    assert [(seat.node, seat.cpus, seat.gpus) for seat in seats_of(mixed, None, "cpu")] == [
        ("a", 64.0, 0.0),
        ("b", 32.0, 0.0),
    ]
    assert [seat.gpus for seat in seats_of([node("a", CPU=4.0, GPU=1.0)], 2, "auto")] == [0.5, 0.5]
    assert seats_of([node("b", CPU=32.0)], None, "cuda") == []
