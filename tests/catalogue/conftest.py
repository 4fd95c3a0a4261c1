from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Maker = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Write a CSV file and photos (one byte is enough: readers look at names only) and give back the CSV's path."""

    def write(text: str | bytes, *photos: str, name: str = "attributes.csv") -> Path:
        for photo in photos:
            place = tmp_path / "images" / photo
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"x")
        table = tmp_path / name
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
        return table

    return write
