"""What a URL says aloud, what it is a prefix of, and which ones are refused."""

from __future__ import annotations

import pytest

from pipeline.errors import OptionError
from pipeline.remote import RemotePhoto, clean, is_url, place_of
from pipeline.remote.urls import joined


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a.jpg", "https://h/a.jpg"),
        ("https://me:word@h/a.jpg#top", "https://h/a.jpg#top"),
        ("https://h/p?id=5&w=200", "https://h/p?id=5&w=200"),
        ("https://h/a.jpg?X-Amz-Signature=af&X-Amz-Date=1&X-Amz-Credential=k&v=2", "https://h/a.jpg?v=2"),
        ("https://h/a.jpg?sv=2024&se=9&sp=r&sig=abc%3D", "https://h/a.jpg"),
        ("https://h/p?seed=1&start=2&sv=2024&se=9&skoid=4&sip=5&sig=abc", "https://h/p?seed=1&start=2"),
        ("https://h/a.jpg?st=dark", "https://h/a.jpg?st=dark"),
        ("s3://key:word@bucket/a#1?.jpg", "s3://bucket/a#1?.jpg"),
        ("no/url@all.jpg", "no/url@all.jpg"),
    ],
)
def test_a_name_has_no_user_and_no_signature(url: str, name: str) -> None:
    assert clean(url) == name == clean(clean(url))
    assert str(RemotePhoto.named(url)) == name and "word" not in repr(RemotePhoto.named(url))


def test_of_a_secret_a_digest_stays_so_that_two_photos_stay_two() -> None:
    one, other = (clean(f"https://h/photo?token={token}") for token in ("alpha-alpha", "beta-beta"))
    assert len(one.partition("=~")[2]) == 16, "eight digits are alike for some two of 100,000 photos"
    assert clean("https://h/p?token=~no-digest").endswith("no-digest") is False
    assert one != other and "alpha" not in one and clean(one) == one


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "gs://me:word@b/x", "https://me:word@h/", "https://h/p?sig=word"])
def test_a_prefix_with_a_secret_or_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(OptionError) as error:
        place_of(url)
    assert "word" not in str(error.value).replace("a user or password", "")


def test_names_under_a_prefix() -> None:
    assert joined(place_of("https://Host/p"), "a b#ü.jpg") == "https://host/p/a%20b%23%C3%BC.jpg"
    assert joined(place_of("https://h"), "a.jpg") == joined(place_of("https://h/"), "a.jpg") == "https://h/a.jpg"
    assert joined(place_of("s3://b/p/"), "a b#.jpg") == "s3://b/p/a b#.jpg"
    assert is_url("S3://b/a") and not is_url("s3/b") and not is_url("ftp://h/a")
