"""A server with photos, and a bucket on it for the clients of this process and of others."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipeline.remote import buckets, photo
from tests.remote.server import Objects, served


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    with served() as there:
        yield there


@pytest.fixture
def bucket(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """The server as an S3 endpoint, named by the environment as a user would."""
    pytest.importorskip("obstore", reason="requirements-remote.txt is not installed")
    for name, value in {
        "AWS_ENDPOINT_URL": objects.url,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "not-so-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    buckets.store_of.cache_clear()
    photo._failed.clear()
    yield objects
    buckets.store_of.cache_clear()


def png(seed: int, size: int = 32) -> bytes:
    """A small photo, another one for each seed; its brightness follows the seed's parity."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 128, (size, size, 3), dtype=np.uint8) + np.uint8(127 * (seed % 2))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
