"""What a server answers to photos in every form, to hostile ones, and to requests that ask for too much."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.model.predictor import Predictor
from pipeline.options import PredictOptions
from tests.serving.conftest import TINY
from tests.serving.served import Running, jpeg, multipart, serving

JSON = {"content_type": "application/json"}


@pytest.fixture(scope="module")
def predictor(model_path: Path) -> Predictor:
    return Predictor(model_path, PredictOptions(device="cpu", runtime="torch", batch_size=4, workers=1))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it has as many pixels as this."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def raw(server: Running, data: bytes, wait: float = 10.0) -> bytes:
    """What comes back over a connection of its own until the server closes it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def test_the_numbers_are_those_of_the_predictor(server: Running, predictor: Predictor) -> None:
    photos = [jpeg(i) for i in range(5)] + [jpeg(9, kind="PNG"), jpeg(9, kind="WEBP")]
    status, answer = server.form([(f"{i}.jpg", photo) for i, photo in enumerate(photos)])
    assert status == 200 and answer["model"] == "best"
    values, chances = predictor.predict(photos), predictor.predict_proba(photos)
    for found, value, chance in zip(answer["photos"], values, chances, strict=True):
        assert found["values"] == value
        assert isinstance(chance, dict)
        for attribute, of_it in chance.items():
            assert found["probabilities"][attribute] == pytest.approx(of_it, abs=2e-5)
    assert answer["thresholds"] == {"neck": {"round": 0, "v": 0}, "style": {"plain": 0.5, "casual": 0.5}}
    assert [photo["photo"] for photo in answer["photos"]] == [f"{i}.jpg" for i in range(7)]


def test_one_photo_is_the_body_whatever_curl_calls_it(server: Running) -> None:
    _, named = server.form([("a.jpg", jpeg(1))])
    for kind in ("application/x-www-form-urlencoded", "image/jpeg", "application/octet-stream", ""):
        status, answer = server.predict(jpeg(1), content_type=kind)
        assert status == 200
        assert answer["photos"][0]["values"] == named["photos"][0]["values"]


def test_a_request_may_choose_the_model_and_the_threshold(server: Running, model_path: Path) -> None:
    options = PredictOptions(device="cpu", runtime="torch", batch_size=4, workers=1, threshold="0.6")
    expected = Predictor(model_path, options).predict(jpeg(1))
    _, answer = server.predict(jpeg(1), "?model=second&threshold=0.6")
    assert (answer["model"], [answer["photos"][0]["values"]]) == ("second", expected)
    assert answer["thresholds"]["neck"] == {"round": 0.6, "v": 0.6}
    status, answer = server.predict(jpeg(1), "?model=secnd")
    assert status == 404 and answer["error"]["text"] == "no such model; there are best, second; did you mean second?"
    status, answer = server.predict(jpeg(1), "?threshold=per-key")
    assert status == 400 and answer["error"]["text"].startswith("threshold is 'per-key', which needs labelled photos")


def test_a_bad_photo_has_its_error_and_the_others_their_values(server: Running) -> None:
    good = jpeg(1)
    bad = {
        "cut.jpg": (good[: len(good) // 2], "damaged", "damaged or truncated image"),
        "page.html": (b"<!doctype html><script>alert(1)</script>", "damaged", "not an image in a known format"),
        "empty.jpg": (b"", "damaged", "empty file"),
        "bomb.png": (bomb(60_000, 60_000), "too_costly", "too many pixels"),
        "large.png": (bomb(1001, 1000), "too_costly", "more than the limit of 1000000"),
        "fits.fits": (b"SIMPLE  =                    T".ljust(2880), "damaged", "not an image in a known format"),
        "ps.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged", "not an image in a known format"),
    }
    photos = [("good.jpg", good), *((name, data) for name, (data, _, _) in bad.items()), ("last.jpg", jpeg(2))]
    before = server.metric("selvedge_rejects_total")
    status, answer = server.form(photos)
    assert status == 200
    first, *rejected, last = answer["photos"]
    assert first["values"] == server.predict(good)[1]["photos"][0]["values"] and last["values"]
    for found, (name, (_, reason, text)) in zip(rejected, bad.items(), strict=True):
        assert found["photo"] == name and found["error"]["reason"] == reason and text in found["error"]["text"]
    assert server.metric("selvedge_rejects_total") == before + len(bad)


@pytest.mark.parametrize(
    ("body", "expected"), [(b"<html>", 422), (jpeg(1)[:200], 422), (bomb(9_000, 9_000), 413), (b"", 400)]
)
def test_a_request_of_nothing_but_a_bad_photo_is_an_error_of_the_client(
    server: Running, body: bytes, expected: int
) -> None:
    status, answer = server.predict(body)
    assert status == expected
    assert "values" not in json.dumps(answer)


def test_photos_of_a_folder_can_be_named_and_no_others(server: Running, album: Path) -> None:
    inside = ["a.jpg", "more/b c.png", str(album / "a.jpg"), (album / "more" / "b c.png").as_uri()]
    outside = [
        "link.jpg",
        "circle.jpg",
        "../outside0/secret.jpg",
        "/etc/passwd",
        "more",
        "absent.jpg",
        "a.jpg\0",
        "x" * 9999,
    ]
    urls = ["http://127.0.0.1/a.jpg", "https://example.org/a.jpg", "file://elsewhere/a.jpg", "ftp://a/b.jpg"]
    status, answer = server.predict(json.dumps({"photos": inside + outside + urls}).encode(), **JSON)
    assert status == 200
    found = answer["photos"]
    assert [photo["values"] for photo in found[:2]] == [photo["values"] for photo in found[2:4]]
    texts = [photo["error"]["text"] for photo in found[4:]]
    assert texts[: len(outside)] == ["no such photo in the folder whose photos may be named"] * len(outside)
    assert {text[:20] for text in texts[len(outside) :]} == {"a URL is not fetched"}
    for body in (b"{", b"[]", b'{"photos": "a.jpg"}', b'{"photos": [1]}', b"[" * 100_000):
        status, answer = server.predict(body, **JSON)
        assert status == 400 and answer["error"]["reason"] == "bad_request"


def test_json_is_no_longer_than_the_paths_that_it_can_name(model_path: Path, album: Path) -> None:
    """It is parsed while no other request is answered, and lists take many times the memory of their text."""
    options = replace(TINY, model=(str(model_path),), allow_paths=album, max_bytes=2**24)
    with serving(options) as server:
        for body in (b'{"photos": [' + b"[]," * 2**20 + b"[]]}", b'{"photos": ["a.jpg"]}'.ljust(2**20 + 1)):
            status, answer = server.predict(body, **JSON)
            assert (status, answer["error"]["reason"]) == (413, "too_large"), answer
        status, answer = server.predict(b'{"photos": [' + b'"a.jpg",' * 99_999 + b'"a.jpg"]}', **JSON)
        assert (status, answer["error"]["text"]) == (413, "more than 16 photos in one request")
        longest = json.dumps({"photos": ["./" * 2000 + "a.jpg"] * 16}).encode()
        status, answer = server.predict(longest, **JSON)
        assert status == 200 and all("values" in photo for photo in answer["photos"])


def test_too_much_is_refused_before_it_is_held(server: Running) -> None:
    status, answer = server.form([(f"{i}", b"x") for i in range(17)])
    assert (status, answer["error"]["text"]) == (413, "more than 16 photos in one request")
    status, answer = server.predict(b"\xff" * (2**20 + 1))
    assert (status, answer["error"]["text"]) == (413, "the request has more than 1048576 bytes")
    # A body of no stated length is counted as it comes; one of an absurd length is not waited for.
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    chunked = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        + piece * 17
        + b"0\r\n\r\n"
    )
    assert raw(server, chunked).startswith(b"HTTP/1.1 413 ")
    start = time.monotonic()
    answer_raw = raw(server, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
    assert answer_raw.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer_raw
    assert time.monotonic() - start < 4
    expecting = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n"
    assert raw(server, expecting).startswith(b"HTTP/1.1 413 "), "whoever asks first is answered first"


def test_forms_that_are_none_are_refused(server: Running) -> None:
    boundary, body = multipart([("a.jpg", jpeg(1))])
    kind = f"multipart/form-data; boundary={boundary}"
    field = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://a/b\r\n--{boundary}--\r\n'.encode()
    )
    endless = f"--{boundary}\r\n".encode() + b"A" * 200_000
    many = (f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 2_000).encode()
    cases = [(b"nonsense", kind), (body, "multipart/form-data"), (field, kind), (endless, kind), (many, kind)]
    for data, content_type in cases:
        status, answer = server.predict(data, content_type=content_type)
        assert (status, answer["error"]["reason"]) == (400, "bad_request"), data[:80]
    assert server.predict(field, content_type=kind)[1]["error"]["text"].startswith(
        "the field 'url' of the form is no file"
    )


def test_a_slow_body_and_a_slow_head_are_not_waited_for(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.serving import protocol

    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    object.__setattr__(server.server.options, "request_timeout", 0.4)
    try:
        slow = raw(server, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
    finally:
        object.__setattr__(server.server.options, "request_timeout", 5.0)
    assert slow.startswith(b"HTTP/1.1 408 ") and b"did not come within 0.4 seconds" in slow
    assert raw(server, b"POST /predict HTTP/1.1\r\nHost: loc") == b"", "closed"
    assert raw(server, b"") == b""
    assert server.predict(jpeg(1))[0] == 200


def test_a_client_that_hangs_up_leaves_nothing_behind(server: Running) -> None:
    body = jpeg(1, (400, 400))
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for sent in (head + body[:1000], head + body):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
    deadline = time.monotonic() + 10
    while server.metric("selvedge_queue_photos") or server.server.service.intake.held:
        assert time.monotonic() < deadline
    assert server.predict(jpeg(1))[0] == 200


def test_clients_at_once_get_what_they_would_get_alone(server: Running) -> None:
    photos = [jpeg(i) if i % 5 else b"no photo" for i in range(24)]
    alone = [server.predict(photo) for photo in photos]
    batches = server.metric("selvedge_batch_photos_count")
    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(server.predict, photos))
    assert [status for status, _ in together] == [status for status, _ in alone]
    for (_, one), (_, other) in zip(alone, together, strict=True):
        assert one["photos"][0].get("values") == other["photos"][0].get("values")
        assert one["photos"][0].get("error") == other["photos"][0].get("error")
    assert server.metric("selvedge_batch_photos_count") - batches < 19, "19 good photos shared batches"


def test_a_server_of_this_machine_alone_answers_to_its_own_names(server: Running) -> None:
    for host, expected in (
        ("localhost", 200),
        (f"127.0.0.1:{server.port}", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
    ):
        assert server.ask("GET", "/labels", headers={"Host": host})[0] == expected


def test_the_other_addresses(server: Running, tiny_model: dict[str, Any]) -> None:
    _, headers, content = server.ask("GET", "/labels")
    first, second = json.loads(content)["models"]
    assert (first["name"], second["name"], len(first["sha256"])) == ("best", "second", 64)
    assert first["attributes"][0] == {"name": "neck", "values": ["round", "v"], "single": True}
    assert any("RANDOM" in note for note in first["notes"])
    assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    assert [server.ask("GET", path)[0] for path in ("/health", "/ready", "/", "/serve.js")] == [200] * 4
    assert [server.ask("POST", "/reload")[0], server.ask("GET", "/../run.py")[0]] == [404, 404]
    assert server.ask("GET", "/predict")[0] == 405
    text = server.ask("GET", "/metrics")[2].decode()
    for name in ("requests_total", "queue_photos", "batch_photos_bucket", "request_seconds_bucket", "rejects_total"):
        assert f"selvedge_{name}" in text
    assert "process_resident_memory_bytes" in text


def test_pixels_as_small_as_one_and_odd_modes_are_photos(server: Running) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint16)).save(file, "PNG")
    status, answer = server.predict(file.getvalue())
    assert status == 200 and answer["photos"][0]["values"]["neck"] in ("round", "v")
