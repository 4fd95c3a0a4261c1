"""A real Ray cluster of two workers: rows of this process bit for bit, whoever is killed or frozen meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.cluster.crew import RayCrew, connect
from pipeline.cluster.engine import ClusterEngine
from pipeline.errors import OptionError
from pipeline.features.extract import extract
from pipeline.options import BackboneOptions, EngineOptions, ExtractOptions
from pipeline.remote import RemotePhoto
from tests.cluster.crews import KilledOrFrozenOnce
from tests.remote.conftest import png
from tests.remote.server import served

pytestmark = pytest.mark.usefixtures("one_thread")
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

ROOT = Path(__file__).resolve().parents[2]
BACKBONE = BackboneOptions(backbone="tf_efficientnet_lite0", weights="package", size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cluster for this module; its workers find these tests, and where to leave word."""
    place = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELVEDGE_TEST_FOLDER", str(place))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        connect(ray, None, {"num_cpus": 2})
        yield place
        ray.shutdown()


@pytest.fixture
def web():
    """70 photos on a web server, the last with the bytes of the first."""
    with served() as objects:
        for number in range(70):
            objects.put(f"{number}.png", png(number % 69))
        yield [RemotePhoto.named(f"{objects.url}/{number}.png") for number in range(70)]


def test_a_worker_killed_and_another_frozen_cost_no_row(photos, web, folder, tmp_path, assert_same):
    """The first is killed before its commit, the second comes back when its unit was redone; a third does the rest."""

    def thaw():
        while not (folder / "order").exists():
            time.sleep(0.02)
        name = f"*-{(folder / 'order').read_text()}-*.h5"
        while not list((tmp_path / "theirs").rglob(name)):
            time.sleep(0.02)
        os.kill(int((folder / "frozen").read_text()), signal.SIGCONT)

    def an_hour_later_once_one_is_frozen():
        return time.monotonic() + 4000.0 * (folder / "order").exists()

    paths = [*photos(80), *web]
    asked = EngineOptions(engine="ray", workers_per_node=2)
    crew = partial(RayCrew, options=asked, kind=KilledOrFrozenOnce)
    options = {
        name: ExtractOptions(cache=tmp_path / name, device="cpu", runtime="torch") for name in ("theirs", "ours")
    }
    waiting = threading.Thread(target=thaw, daemon=True)
    waiting.start()
    engine = ClusterEngine(crew, clock=an_hour_later_once_one_is_frozen)
    theirs = extract(paths, BACKBONE, options["theirs"], engine=engine)
    waiting.join(10)
    assert not waiting.is_alive() and (folder / "killed").exists()
    ours = extract(paths, BACKBONE, options["ours"])
    assert_same("theirs", "ours")
    told = ("unique", "duplicates", "reused", "written", "rejects")
    assert {name: getattr(theirs, name) for name in told} == {name: getattr(ours, name) for name in told}
    assert (theirs.written, theirs.duplicates, len(theirs.rejects)) == (148, 1, 1)
    assert theirs.runtime.startswith("2 workers on 1 machine: ")


def test_a_cluster_that_is_not_there_is_an_error(folder):
    with pytest.raises(OptionError, match="no machine for a worker with --device cuda"):
        RayCrew(setup_for("cuda"), EngineOptions(engine="ray")).__enter__()


def setup_for(device):
    class Told:
        options = ExtractOptions(device=device)

    return Told()
