"""A real Ray cluster of two workers: rows of this process bit for bit, whoever is killed or frozen meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cache import FeatureCache
from pipeline.cluster.crew import RayCrew, connect
from pipeline.cluster.engine import ClusterEngine
from pipeline.errors import OptionError
from pipeline.features.extract import extract
from pipeline.options import BackboneOptions, EngineOptions, ExtractOptions
from tests.cluster.crews import FrozenOnce, KilledOnce, Worker

pytestmark = pytest.mark.usefixtures("one_thread")
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

ROOT = Path(__file__).resolve().parents[2]
BACKBONE = BackboneOptions(backbone="tf_efficientnet_lite0", weights="package", size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cluster for all tests of this module; its workers find these tests, and where to leave word."""
    place = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELVEDGE_TEST_FOLDER", str(place))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        connect(ray, None, {"num_cpus": 4})
        yield place
        ray.shutdown()


@pytest.fixture
def run(photos, tmp_path, folder):
    """Extract 300 photos with two workers of a kind, and then here; gives both reports."""

    def call(kind=Worker, clock=time.monotonic):
        paths = photos(300)
        asked = EngineOptions(engine="ray", workers_per_node=2)
        engine = ClusterEngine(lambda setup: RayCrew(setup, asked, kind), clock=clock)
        options = {
            name: ExtractOptions(cache=tmp_path / name, device="cpu", runtime="torch") for name in ("theirs", "ours")
        }
        return extract(paths, BACKBONE, options["theirs"], engine=engine), extract(paths, BACKBONE, options["ours"])

    return call


def test_a_worker_killed_before_its_commit_costs_one_unit_and_no_row(run, folder, tmp_path, assert_same):
    theirs, ours = run(KilledOnce)
    assert (folder / "killed").exists()
    assert_same("theirs", "ours")
    assert (theirs.written, theirs.rejects) == (299, ours.rejects)
    assert theirs.runtime.startswith("2 workers on 1 machine: ")
    assert FeatureCache(tmp_path / "theirs").verify().duplicate_rows == 0


def test_a_frozen_worker_that_comes_back_when_its_unit_was_redone_does_no_harm(run, folder, tmp_path, assert_same):
    def thaw():
        while not (folder / "order").exists():
            time.sleep(0.02)
        name = f"*-{(folder / 'order').read_text()}-*.h5"
        while not list((tmp_path / "theirs").rglob(name)):
            time.sleep(0.02)
        os.kill(int((folder / "frozen").read_text()), signal.SIGCONT)

    def an_hour_later_once_it_is_frozen():
        return time.monotonic() + 4000.0 * (folder / "order").exists()

    waiting = threading.Thread(target=thaw, daemon=True)
    waiting.start()
    theirs, ours = run(FrozenOnce, an_hour_later_once_it_is_frozen)
    waiting.join(10)
    assert not waiting.is_alive()
    assert_same("theirs", "ours")
    assert (theirs.written, theirs.rejects) == (299, ours.rejects)


def test_a_cluster_that_is_not_there_is_an_error(folder):
    with pytest.raises(OptionError, match="no machine for a worker with --device cuda"):
        RayCrew(setup_for("cuda"), EngineOptions(engine="ray")).__enter__()


def setup_for(device):
    class Told:
        options = ExtractOptions(device=device)

    return Told()
