"""A photo, a document or an archive given as the table: the error says what it is and what to give."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.catalogue import read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

TAKES = r"--data takes a table of labels \(CSV, .xlsx or .parquet\), or a folder with a sub-folder of photos per class"


def photo(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


def archive(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        zipped.writestr(name, b"filename,neck\n")
    return stream.getvalue()


def parquet() -> bytes:
    stream = io.BytesIO()
    pd.DataFrame({"filename": ["a.jpg"]}).to_parquet(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        *(
            (f"p.{kind}", photo(kind), f"is a photo. {TAKES}; --images says .* predict takes")
            for kind in ("JPEG", "PNG")
        ),
        *((f"p.{kind}", photo(kind), f"is a photo. {TAKES}; --images") for kind in ("GIF", "WEBP", "TIFF")),
        ("p.heic", b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf", "is a photo"),
        ("lies.csv", photo("JPEG"), "is a photo"),
        ("lies.xlsx", photo("JPEG"), "is a photo"),
        ("lies.parquet", photo("PNG"), "is a photo"),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", f"is a PDF document. {TAKES}[.]"),
        ("a.zip", archive("a.csv"), f"is a ZIP archive. {TAKES}; unpack it first"),
        ("a.csv.gz", gzip.compress(b"filename,neck\na.jpg,v\n", mtime=0), "is a gzip archive. .* unpack it first"),
        ("page.csv", b"\n <!DOCTYPE html><html>", "is a web page"),
        ("a.bin", np.random.default_rng(0).bytes(4096), f"is no text. {TAKES}"),
        ("a.csv", archive("xl/workbook.xml"), "is an Excel workbook. Give it that ending: a.xlsx"),
        ("b.csv", parquet(), "is a Parquet file. Give it that ending: b.parquet"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CatalogueError, match=f"{name} {message}"):
        read_catalogue(DataOptions(data=path))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1251", "utf-16", "utf-16-le"])
def test_a_table_in_any_writing_is_one(make: Maker, encoding: str) -> None:
    table = make("filename,neck\na.jpg,круглый\n".encode(encoding), "a.jpg")
    assert len(read_catalogue(DataOptions(data=table))) == 1
    table = make(("filename,neck\na.jpg," + "круглый " * 200 + "\n").encode(encoding), "a.jpg")
    assert len(read_catalogue(DataOptions(data=table))) == 1
