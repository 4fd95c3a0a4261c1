"""From the start of a server to its end: what it does not start with, a full queue, a dead thread, reloads, signals."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.errors import OptionError
from pipeline.model.file import save_model
from pipeline.model.folder.write import write_parts
from pipeline.serving.models import named_files
from pipeline.system import file_digest
from tests.serving.conftest import TINY
from tests.serving.served import Running, jpeg, needed, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _needed() -> None:
    needed()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is not set, photos that are decoded wait before the network."""
    from pipeline.serving import batches

    opened, go_on = threading.Event(), batches.in_batches

    def held(pairs: Sequence[Any]) -> Any:
        assert opened.wait(10)
        return go_on(pairs)

    monkeypatch.setattr(batches, "in_batches", held)
    yield opened
    opened.set()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_models_have_names(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.joblib"
    odd.touch()
    assert named_files(["runs/x/best.joblib", "old=runs/y/best.joblib", str(tmp_path / "c.joblib")]) == {
        "best": Path("runs/x/best.joblib"),
        "old": Path("runs/y/best.joblib"),
        "c": tmp_path / "c.joblib",
    }
    with pytest.raises(OptionError, match="no model to serve: name a model file with --model"):
        named_files([])
    with pytest.raises(OptionError, match=r"x/best.joblib and y/best.joblib are both called best"):
        named_files(["x/best.joblib", "y/best.joblib"])
    with pytest.raises(OptionError, match="'a=b' cannot be a name"):
        named_files([str(odd)])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "no model to serve"),
        (["--model", "absent.joblib"], "no model file absent.joblib"),
        (["--model", "{model}", "--sha256", "0" * 64], "not " + "0" * 64 + " as asked; it was not loaded"),
        (["--model", "{model},b={model}", "--sha256", "0" * 64], "--sha256 has 1 digests, --model 2 files"),
        (["--model", "{lost}"], "The model needs the weights of"),
        (["--model", "{model}", "--allow-paths", "absent"], "--allow-paths is absent, which is no folder"),
        (["--model", "{model}", "--queue", "3"], "--max-photos is 64, more than fit into the queue (--queue 3)"),
        (["--model", "{model}", "--host", "256.1.1.1"], "cannot listen at 256.1.1.1, port 0"),
        (["--model", "{model}", "--threshold", "per-key"], "needs labelled photos"),
    ],
)
def test_what_cannot_be_served_ends_the_command_at_its_start(
    words: list[str], text: str, model_path: Path, tiny_model: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    lost = tmp_path / "lost.joblib"
    save_model({**tiny_model, "weights_source": "gone.safetensors"}, lost)
    given = [word.format(model=model_path, lost=lost) for word in words]
    assert main(["serve", "--port", "0", "--runtime", "torch", *given]) == 1
    assert text in capsys.readouterr().err


def test_without_the_extra_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.serving import serve

    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert main(["serve", "--model", "x.joblib"]) == 1
    error = capsys.readouterr().err
    assert error == "error: serve needs uvicorn, which is not installed: pip install -r requirements-serve.txt\n"


def test_a_port_that_is_taken_is_said(server: Running, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(model_path), "--port", str(server.port)]) == 1
    assert "name another with --host or --port" in capsys.readouterr().err


def test_a_full_queue_sends_requests_away_and_takes_them_later(model_path: Path, gate: threading.Event) -> None:
    options = replace(TINY, model=(str(model_path),), queue=3, max_photos=3)
    with serving(options) as server, ThreadPoolExecutor(2) as clients:
        first = clients.submit(server.form, [("a", jpeg(1)), ("b", jpeg(2))])
        until(lambda: server.metric("selvedge_queue_photos") == 2)
        status, headers, content = server.ask("POST", "/predict", *_form_of_two())
        assert (status, headers["retry-after"]) == (429, "1")
        assert json.loads(content)["error"]["reason"] == "overloaded"
        last = clients.submit(server.predict, jpeg(3))
        until(lambda: server.metric("selvedge_queue_photos") == 3)
        gate.set()
        assert first.result()[0] == last.result()[0] == 200
        assert server.form([("a", jpeg(1)), ("b", jpeg(2))])[0] == 200


def _form_of_two() -> tuple[bytes, dict[str, str]]:
    from tests.serving.served import multipart

    boundary, body = multipart([("a", jpeg(1)), ("b", jpeg(2))])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def test_an_answer_that_takes_too_long_is_given_up_and_its_place_is_free_again(
    model_path: Path, gate: threading.Event
) -> None:
    with serving(replace(TINY, model=(str(model_path),), request_timeout=0.3)) as server:
        status, answer = server.predict(jpeg(1))
        assert status == 503 and answer["error"]["text"] == "no answer within 0.3 seconds; come again"
        gate.set()
        until(lambda: server.metric("selvedge_queue_photos") == 0)


def test_a_server_that_stops_answers_what_it_has_taken(model_path: Path, gate: threading.Event) -> None:
    with ThreadPoolExecutor(1) as client:
        with serving(replace(TINY, model=(str(model_path),))) as server:
            asked = client.submit(server.form, [(str(i), jpeg(i)) for i in range(9)])
            until(lambda: server.metric("selvedge_queue_photos") == 9)
            server.server.stop()
            until(lambda: not _reachable(server))
            gate.set()
        status, answer = asked.result()
    assert status == 200 and all("values" in photo for photo in answer["photos"])


def _reachable(server: Running) -> bool:
    try:
        return server.ask("GET", "/health")[0] == 200
    except OSError:
        return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_inference_thread_is_not_ready_and_takes_nothing(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.serving.batches import Batches

    take = Batches.take

    def dies(self: Batches) -> Any:
        take(self)
        raise MemoryError("as the kernel may have it")

    with serving(replace(TINY, model=(str(model_path),))) as server:
        assert server.ask("GET", "/ready")[0] == 200
        server.predict(jpeg(1))
        monkeypatch.setattr(Batches, "take", dies)
        server.predict(jpeg(1))  # whoever waits in the old `take` goes on once more
        start = time.monotonic()
        assert server.predict(jpeg(1))[0] == 503, "the photo that it had in hand"
        assert time.monotonic() - start < TINY.request_timeout
        until(lambda: not server.server.service.batches.alive)
        assert (server.ask("GET", "/ready")[0], server.ask("GET", "/health")[0]) == (503, 200)
        status, answer = server.predict(jpeg(1))
        assert status == 503 and answer["error"]["reason"] == "not_ready"
        assert server.metric("selvedge_ready") == 0 and server.metric("selvedge_queue_photos") == 0


def test_a_fault_of_one_batch_is_told_to_it_alone(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pipeline.serving import batches

    go_on = batches.in_batches
    with serving(replace(TINY, model=(str(model_path),))) as server:
        monkeypatch.setattr(batches, "in_batches", lambda pairs: 1 / 0)
        status, answer = server.predict(jpeg(1))
        assert (status, answer["error"]["reason"]) == (500, "internal") and "zero" not in answer["error"]["text"]
        assert server.metric('selvedge_rejects_total{reason="internal"}') == 1
        monkeypatch.setattr(batches, "in_batches", go_on)
        assert server.predict(jpeg(1))[0] == 200
        assert server.ask("GET", "/ready")[0] == 200


def test_models_are_read_again_when_asked_all_or_none(
    model_path: Path, tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "m.joblib"
    save_model(tiny_model, path)
    with serving(replace(TINY, model=(str(path), f"other={model_path}"), reload=True)) as server:
        before = server.predict(jpeg(1))[1]["photos"][0]["probabilities"]
        status, _, content = server.ask("POST", "/reload")
        assert status == 200 and json.loads(content)["changed"] is False
        path.write_bytes(b"half a model")
        status, _, content = server.ask("POST", "/reload")
        assert status == 409 and b"the models are as they were" in content
        assert server.predict(jpeg(1))[1]["photos"][0]["probabilities"] == before
        (member,) = tiny_model["members"]
        turned = {**member, "layers": [(-W, b) for W, b in member["layers"]]}
        _save(tiny_model, turned, path)
        assert server.ask("POST", "/reload", headers={"Origin": "http://evil.example"})[0] == 403
        assert server.predict(jpeg(1))[1]["photos"][0]["probabilities"] == before
        status, _, content = server.ask("POST", "/reload")
        assert json.loads(content) == {
            "changed": True,
            "models": {"m": file_digest(path), "other": file_digest(model_path)},
        }
        assert server.predict(jpeg(1))[1]["photos"][0]["probabilities"] != before
        assert server.predict(jpeg(1), "?model=other")[1]["photos"][0]["probabilities"] == before
        assert [line.partition(":")[0] for line in server.said] == [
            "reloaded", "reload failed, the models are as they were", "reloaded",
        ]  # fmt: skip


def test_a_folder_that_has_changed_is_told_so(tiny_model: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    digest = write_parts(tiny_model, folder)
    with serving(replace(TINY, model=(str(folder),), reload=True)) as server:
        (model,) = json.loads(server.ask("GET", "/labels")[2])["models"]
        assert (model["name"], model["sha256"]) == ("exported", digest)
        assert json.loads(server.ask("POST", "/reload")[2]) == {"models": {"exported": digest}, "changed": False}
        changed = write_parts({**tiny_model, "thresholds": tiny_model["thresholds"] + 2}, folder)
        status, _, content = server.ask("POST", "/reload")
        assert status == 409 and b"fails its self-test" in content
        changed = write_parts({**tiny_model, "info": {"head": "another"}}, folder)
        assert json.loads(server.ask("POST", "/reload")[2]) == {"models": {"exported": changed}, "changed": True}


def _save(model: dict[str, Any], member: dict[str, Any], path: Path) -> None:
    """The model with other weights, and a self-test that says so."""
    from pipeline.model.file import decisions, proba

    changed = {**model, "members": [member]}
    X = model["selftest"]["X"]
    P = proba(changed, X)
    save_model({**changed, "selftest": {"X": X, "P": P, "decisions": decisions(changed, P)}}, path)


def test_signals_reload_and_stop_the_command(model_path: Path, tmp_path: Path) -> None:
    """The command itself, as a process: SIGHUP reads the model again, SIGTERM ends it when all is answered."""
    path = tmp_path / "m.joblib"
    shutil.copy(model_path, path)
    words = ["serve", "--model", str(path), "--port", "0", "--runtime", "torch", "--reload"]
    process = subprocess.Popen(
        [sys.executable, "run.py", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("serve: 1 model at http://127.0.0.1:"), process.communicate(timeout=5)
        server = Running(_At(int(first.split(":")[3].split("/")[0])), threading.Thread())
        process.send_signal(signal.SIGHUP)
        lines = iter(process.stdout.readline, "")
        assert "serve: reloaded: the model files are the same\n" in lines
        photos = [(f"{i}.jpg", jpeg(i, (500, 500))) for i in range(16)]
        with ThreadPoolExecutor(1) as client:
            asked = client.submit(server.form, photos)
            until(lambda: server.metric("selvedge_queue_photos") > 0)
            process.send_signal(signal.SIGTERM)
            status, answer = asked.result()
        assert status == 200 and len([photo for photo in answer["photos"] if "values" in photo]) == 16
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and out.endswith("serve: stopped; 16 photos predicted, 0 refused\n"), err
        assert err == ""
    finally:
        process.kill()


class _At:
    """A server of another process, of which only the port is known."""

    def __init__(self, port: int) -> None:
        self.port = port
