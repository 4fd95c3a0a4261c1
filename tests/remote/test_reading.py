"""Reading single photos: what is tried again, what is not, and what stops everything."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.errors import NotFetched, OptionError, RemoteError, TooCostly
from pipeline.features.backbone.limits import MAX_FILE_BYTES
from pipeline.remote import Ahead, RemotePhoto, Stamp, ask, buckets, limits, list_photos, photo, place_of
from tests.remote.server import BUCKET, Objects


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(buckets, "FIRST_WAIT", 0.01)


def of(objects: Objects, key: str, stamp: Stamp | None = None) -> tuple[RemotePhoto, RemotePhoto]:
    urls = f"s3://{BUCKET}/{key}", f"{objects.url}/{BUCKET}/{key}"
    s3, web = (RemotePhoto(url, url, stamp) for url in urls)
    return s3, web


def test_a_bucket_is_listed_page_by_page_with_the_versions_and_a_busy_answer_is_tried_again(bucket: Objects) -> None:
    names = [f"{number} ü+#.jpg" for number in range(20)]
    for name in names:
        bucket.put(f"shop/{name}", name.encode())
    bucket.put("shop2/other.jpg", b"x")
    bucket.fails["list"] = 1
    found = list_photos(place_of(f"s3://{BUCKET}/shop"))
    assert sorted(found) == sorted(names)
    assert found[names[0]].size == len(names[0].encode()) and found[names[0]].tells
    assert len({stamp.tag for stamp in found.values()}) == 20
    assert RemotePhoto(f"s3://{BUCKET}/shop/{names[3]}", "3", found[names[3]])() == names[3].encode()


def test_what_fails_for_a_time_is_tried_again(bucket: Objects) -> None:
    bucket.put("a.jpg", b"photo")
    for each in of(bucket, "a.jpg"):
        bucket.fails["a.jpg"] = limits.ATTEMPTS - 1
        assert each() == b"photo"
        bucket.fails["a.jpg"] = limits.ATTEMPTS
        with pytest.raises(NotFetched, match="500"):
            each()
    assert bucket.count("GET") == 4 * limits.ATTEMPTS


def test_what_is_gone_or_changed_is_said_and_not_tried_again(bucket: Objects) -> None:
    bucket.put("a.jpg", b"now")
    for each in (*of(bucket, "none.jpg"), *of(bucket, "a.jpg", Stamp(3, 1, '"before"'))):
        with pytest.raises(NotFetched, match="no such object|404|it changed since"):
            each()
    assert bucket.count("GET") == 4


def test_a_silent_server_costs_a_limited_time(bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.remote import http

    bucket.put("a.jpg", b"photo")
    bucket.slow["a.jpg"] = 3
    monkeypatch.setattr(photo, "ATTEMPTS", 2)
    monkeypatch.setattr(buckets, "ATTEMPTS", 1)
    monkeypatch.setattr(buckets, "LONGEST", 0.3)
    real = http.fetch
    monkeypatch.setattr(http, "fetch", lambda url, limit, tag: real(url, limit, timeout=0.2, tag=tag))
    for each in of(bucket, "a.jpg"):
        start = time.monotonic()
        with pytest.raises(NotFetched, match="silent"):
            each()
        assert time.monotonic() - start < 2.5


def test_endless_bytes_end_at_the_limit(bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.jpg", b"small")
    bucket.endless.add("a.jpg")
    monkeypatch.setattr(photo, "MAX_BYTES", 300_000)
    for each in of(bucket, "a.jpg"):
        with pytest.raises((NotFetched, TooCostly), match="300000"):
            each()


def test_a_photo_that_is_listed_as_too_large_is_not_asked_for(bucket: Objects) -> None:
    assert limits.MAX_BYTES == MAX_FILE_BYTES
    for each in of(bucket, "a.jpg", Stamp(limits.MAX_BYTES + 1, 1, "x")):
        with pytest.raises(TooCostly):
            each()
    assert bucket.requests == []


def test_a_bucket_that_may_not_be_read_is_one_error_that_names_it_and_no_secret(bucket: Objects) -> None:
    bucket.put("a.jpg", b"photo")
    bucket.denied.add("")
    s3, web = of(bucket, "a.jpg")
    for call in (s3, lambda: list_photos(place_of(f"s3://{BUCKET}")), lambda: ask([s3])):
        with pytest.raises(RemoteError, match=f"s3://{BUCKET}: permission denied") as error:
            call()
        assert "secret" not in str(error.value) and "127.0.0.1" not in str(error.value)
    with pytest.raises(NotFetched, match="403"):
        web()
    with pytest.raises(NotFetched, match="AccessDenied"):
        RemotePhoto.named(s3.url)()


def test_a_host_that_cannot_be_reached_is_one_error(bucket: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    web = RemotePhoto("http://127.0.0.1:9/a.jpg", "http://127.0.0.1:9/a.jpg")
    s3 = RemotePhoto(f"s3://{BUCKET}/a.jpg", "a")
    for call in (s3, lambda: list_photos(place_of(f"s3://{BUCKET}")), web, lambda: ask([web])):
        with pytest.raises(RemoteError, match="cannot be reached"):
            call()


def test_a_host_from_which_nothing_comes_any_more_ends_it(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo, "ATTEMPTS", 1)
    photo._failed.clear()
    objects.fails["a.jpg"] = 10**6
    objects.put("b.jpg", b"photo")
    bad, good = (RemotePhoto(f"{objects.url}/{name}", name) for name in ("a.jpg", "b.jpg"))
    for _ in range(limits.IN_A_ROW - 1):
        with pytest.raises(NotFetched):
            bad()
    good()
    for _ in range(limits.IN_A_ROW - 1):
        with pytest.raises(NotFetched):
            bad()
    with pytest.raises(RemoteError, match="20 photos in a row did not come"):
        bad()


def test_a_web_server_that_answers_nothing_any_more_is_not_asked_for_every_photo(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo, "ATTEMPTS", 1)
    photo._failed.clear()
    objects.fails["a.jpg"] = 10**6
    with pytest.raises(RemoteError, match="20 photos in a row did not come"):
        ask([RemotePhoto(f"{objects.url}/a.jpg", "a.jpg")] * 200)
    assert objects.count("HEAD") < 60


def test_a_key_that_no_path_can_be_is_named(bucket: Objects) -> None:
    for key in ("shop//b.jpg", "shop/../b.jpg", "shop/b\n.jpg"):
        bucket.held = {key: (b"x", 1.0)}
        with pytest.raises(RemoteError, match=r"holds a key that no path can be, '.*b.*\.jpg'.*rename it") as error:
            list_photos(place_of(f"s3://{BUCKET}/shop"))
        assert "region" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("there", ["ftp://elsewhere.invalid/a.jpg", "file:///a?sig=hush"])
def test_a_redirection_to_another_scheme_is_one_photos_trouble_and_is_not_quoted(objects: Objects, there: str) -> None:
    objects.moved["a.jpg"] = there
    with pytest.raises(NotFetched) as error:
        RemotePhoto(f"{objects.url}/a.jpg", "a.jpg")()
    assert "hush" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_lacking_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    buckets.store_of.cache_clear()
    with pytest.raises(OptionError, match=r"pip install -r requirements-remote\.txt"):
        list_photos(place_of("gs://bucket"))


def test_reading_ahead_keeps_to_its_budget_and_its_order(objects: Objects) -> None:
    for number in range(12):
        objects.put(f"{number}.jpg", bytes([number]) * 1000)
    objects.slow["0.jpg"] = 0.2
    photos = [RemotePhoto(f"{objects.url}/{n}.jpg", "", Stamp(1000, 1, "")) for n in range(12)]
    ahead, taken = Ahead(budget=3500), []
    begun: list[object] = []
    thread = threading.Thread(target=lambda: begun.extend(map(ahead.start, photos)))
    thread.start()
    time.sleep(0.1)
    assert objects.count("GET") <= 3, "the budget holds three of them"
    while len(taken) < 12:
        if len(begun) > len(taken):
            taken.append(begun[len(taken)]()[0])  # type: ignore[operator]
    thread.join()
    ahead.close()
    assert taken == list(range(12))
    assert ahead.start("a path") == "a path"


def test_reading_ahead_does_not_wait_for_a_decoder_that_stopped(bucket: Objects) -> None:
    bucket.denied.add("")
    photos = [of(bucket, "a.jpg", Stamp(1000, 1, ""))[0]] * 3
    ahead = Ahead(budget=2000)
    first, _ = ahead.start(photos[0]), ahead.start(photos[1])
    with pytest.raises(RemoteError):
        first()  # type: ignore[operator]
    ahead.start(photos[2])
    ahead.start(photos[2])
    ahead.close()
