"""Readers of texts, photos and run folders."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing.mutations import IRREGULAR, by_cells, by_json, by_yaml, put
from benchmarks.fuzzing.reader import Mutation, Reader
from pipeline.catalogue import infer_schema, read_split
from pipeline.catalogue.cells import natural
from pipeline.catalogue.reading.allowed_values import hold_against, read_allowed_values
from pipeline.catalogue.reading.attributes import read_category_attributes
from pipeline.catalogue.reading.corrections.overlay import read_labels
from pipeline.catalogue.reading.corrections.said import read_said, write_said
from pipeline.catalogue.reading.mapping import read_mapping, write_mapping
from pipeline.catalogue.reading.read import read_catalogue
from pipeline.catalogue.records import Catalogue
from pipeline.catalogue.split_file import write_split
from pipeline.catalogue.splits import Split
from pipeline.errors import BadImage, OptionError, RunError
from pipeline.options import CompareOptions, DataOptions

A = "filename,neck,sleeve\na.jpg,round,1\nb.jpg,v,2\nc.jpg,#N/A,10\n"
B = (
    "id,filename,category,attributes\n1,a.jpg,dress,\"{'neck': ['round', 'v'], 'size': [1, 0x2]}\"\n"
    "2,b.jpg,skirt,\"{'fit': 'loose'}\"\n"
)
LISTS = '{"neck": ["round", "v", "none"], "sleeve": ["1", "2"], "dress": ["neck", "size"]}'
PHOTOS = ("a.jpg", "b.jpg", "c.jpg")


def used(catalogue: Catalogue) -> None:
    """What is read can also be ordered, encoded and written."""
    for column in catalogue.cells.values():
        for value in sorted({value for cell in column for value in cell or ()}, key=natural):
            value.encode()
    for text in (*catalogue.attributes, *catalogue.filenames, *(f.detail + f.filename for f in catalogue.findings)):
        text.encode()
    schema = infer_schema(catalogue)
    schema.encode(catalogue.cells, catalogue.categories)


class CatalogueReader(Reader):
    """The four formats of a catalogue: A, B, products (columns or patterns), a folder of classes."""

    name = "catalogue"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        products = "id;kind;neck\na;x;round\nb;y;v\n"
        self.samples = {
            "a.csv": A.encode(),
            "a16.csv": A.encode("utf-16"),
            "b.csv": B.encode(),
            "products.csv": products.encode(),
            "column.csv": A.replace("filename", "photo").encode(),
            "columns.csv": b"front,back,neck\na.jpg,b.jpg,round\nc.jpg,,v\n",
            "pattern.csv": b"id,kind,neck\na,x,round\nb,y,v\n",
            "folder.txt": b"round/a.jpg\nv-neck/b.jpg\nv-neck/c.jpg",
        }
        for photo in PHOTOS:
            put(home / "images" / photo, b"x")

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_cells,) if sample not in ("folder.txt", "products.csv", "a16.csv") else ()

    def read(self, sample: str, data: bytes) -> str:
        if sample == "folder.txt":
            used(read_catalogue(DataOptions(data=self._folder(data))))
            return ""
        path = self.home / sample
        put(path, data)
        more: dict[str, Any] = {
            "products.csv": {"image_name": "{id}.jpg"},
            "pattern.csv": {"image_name": "{id}*"},
            "column.csv": {"image_column": ("photo",)},
            "columns.csv": {"image_column": ("front", "back")},
        }
        used(read_catalogue(DataOptions(data=path, **more.get(sample, {})), "kind" if "products" in sample else None))
        return ""

    def _folder(self, data: bytes) -> Path:
        """A folder with files of these names, as far as a file system can have them."""
        folder = self.home / "classes"
        put(folder, b"@folder@")
        if data in IRREGULAR:
            put(folder / "round" / "a.jpg", data)
        for name in data.split(b"\n")[:40]:
            parts = [part[:200] for part in name.split(b"/") if part not in (b"", b".", b"..")][:3]
            place = bytes(folder)
            if parts and b"\0" not in name:
                try:
                    put(Path(os.fsdecode(b"/".join((place, *parts)))), b"x")
                except OSError:
                    continue
        return folder


class ListsReader(Reader):
    """--allowed-values and --category-attributes."""

    name = "lists"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.samples = {"values.json": LISTS.encode(), "attributes.json": LISTS.encode()}
        for photo in PHOTOS:
            put(home / "images" / photo, b"x")
        put(home / "a.csv", A.encode())
        self._catalogue = read_catalogue(DataOptions(data=home / "a.csv"))

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_json,)

    def read(self, sample: str, data: bytes) -> str:
        put(self.home / sample, data)
        if sample == "values.json":
            used(hold_against(self._catalogue, read_allowed_values(self.home / sample), keep=False))
        else:
            gate = read_category_attributes(self.home / sample)
            infer_schema(self._catalogue, gate=gate).encode(self._catalogue.cells)
        return ""


class MappingReader(Reader):
    """--mapping, CSV and YAML, applied to a catalogue and written again."""

    name = "mapping"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.samples = {
            "m.csv": b"attribute,value,count,suggestion,note,replacement\nneck,v,2,,,round\nsleeve,10,1,,,2\n",
            "m.yaml": b"- {attribute: neck, value: v, replacement: round}\n"
            b"- attribute: sleeve\n  value: 10\n  replacement: 2\n",
        }
        for photo in PHOTOS:
            put(home / "images" / photo, b"x")
        put(home / "a.csv", A.encode())

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_cells,) if sample == "m.csv" else (by_yaml,)

    def read(self, sample: str, data: bytes) -> str:
        path = self.home / sample
        put(path, data)
        lines = read_mapping(path)
        again = self.home / f"again{path.suffix}"
        put(again, b"@nothing@")
        write_mapping(again, lines)
        used(read_catalogue(DataOptions(data=self.home / "a.csv", mapping=path)))
        return "" if read_mapping(again) == lines else "what was written is read as something else"


class LabelsReader(Reader):
    """--labels, CSV and a Label Studio export, laid over a catalogue; what was said is written and read again."""

    name = "labels"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.samples = {
            "l.csv": b"photo,attribute,value,by,at\na.jpg,neck,v|round,anna,2026-11-02\nb.jpg,sleeve,none,ben,\n",
            "l.json": b'[{"id": 1, "data": {"image": "/data/upload/1/1a2b3c4d-a.jpg"}, "annotations": [{"completed_by":'
            b' {"email": "a@b.c"}, "was_cancelled": false, "result": [{"type": "choices", "from_name": "neck",'
            b' "value": {"choices": ["v", "round"]}}], "updated_at": "2026-11-02"}]}]',
        }
        for photo in PHOTOS:
            put(home / "images" / photo, b"x")
        put(home / "a.csv", A.encode())

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_cells,) if sample == "l.csv" else (by_json,)

    def read(self, sample: str, data: bytes) -> str:
        path = self.home / sample
        put(path, data)
        said, _ = read_labels([path])
        used(read_catalogue(DataOptions(data=self.home / "a.csv", labels=(path,))))
        again = self.home / "again.csv"
        put(again, b"@nothing@")
        write_said(again, said)
        back, _ = read_said(again)
        values = [(each.photo.strip(), each.attribute.strip(), each.value) for each in said]
        kept = [each for each in values if all(each)]
        return "" if [(b.photo, b.attribute, b.value) for b in back] == kept else "labels are read as something else"


class SplitReader(Reader):
    """split.csv with its digest beside it: it is read as it was written, or refused."""

    name = "split"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._path = home / "split.csv"
        ids = np.array([bytes([65 + i]) * 32 for i in range(6)], "S32")
        parts = np.array(["train", "train", "validation", "test", "test", "train"])
        write_split(self._path, [f"{c}.jpg" for c in "abcdef"], ids, np.arange(6), Split(parts))
        self._digest = next((p for p in home.iterdir() if p != self._path), None)
        sound = self._path.read_bytes()
        self.samples = {"split.csv": sound, "edited.csv": sound}
        if self._digest is not None:
            self.samples["digest.sha256"] = self._digest.read_bytes()
        self._right = read_split(self._path)

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_cells,) if sample.endswith("csv") else ()

    def read(self, sample: str, data: bytes) -> str:
        put(self._path, self.samples["split.csv"] if sample == "digest.sha256" else data)
        if self._digest is not None:
            kept = {"digest.sha256": data, "edited.csv": b"@nothing@"}
            put(self._digest, kept.get(sample, self.samples["digest.sha256"]))
        table = read_split(self._path)
        same = (table.photos, table.parts) == (self._right.photos, self._right.parts)
        return "" if same or sample == "edited.csv" else "other photos or parts were accepted"


class OptionsReader(Reader):
    """--config files, down to checked options, plans of `reproduce`, down to the words of each command, and records."""

    name = "options"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        import cyclopts

        from pipeline.cli.app import app

        # Wrong usage has its own exit code and line.
        self.errors = (OptionError, RunError, cyclopts.CycloptsError)
        self._app = app
        configs = Path(__file__).resolve().parents[2] / "configs"
        self.samples = {
            "flow.yaml": b'backbone: "resnet18"\nbatch_size: 0x10\nseed: 3\nfit-heads:\n  heads: [linear, &a mlp]\n'
            b"  lr: [0.1, 1e-3]\n  hidden: 1_0\n  ensemble: 2\nextract: {features: [pooled]}\n",
            "plan.yaml": (configs / "tshirt-notebook.yaml").read_bytes(),
            "plan.json": b'{"split": ["--split", "80/10/10"], "runs": {"a": ["--heads", "linear"], "b": []}}',
            "train.json": b'{"format": "selvedge-training", "recipe": "best", "asked": [["extract", "--data", "a"]], '
            b'"catalogue": "ab", "done": {"compare": "report.html"}}',
        }

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (by_yaml,) if sample.endswith("yaml") else (by_json,)

    def read(self, sample: str, data: bytes) -> str:
        from pipeline.cli.parsing import parse
        from pipeline.cli.plans.plan import Overrides, Plan, Step, read_plan
        from pipeline.cli.plans.state import PlanState
        from pipeline.cli.training.state import begun_with

        put(self.home / sample, data)
        if sample == "flow.yaml":
            for command in ("fit-heads", "extract", "train"):
                str(parse(self._app, [command, "--config", str(self.home / sample)])).encode()
        elif sample == "plan.yaml":
            str(read_plan(self.home / sample, Overrides(data={"data": "catalogue"}))).encode()
        elif sample == "train.json":
            str(begun_with(self.home)).encode()
        else:
            runs = (Step("a", ("--heads", "linear"), ""), Step("b", (), ""))
            PlanState(Plan(self.home, (), runs, ("--split", "80/10/10"), ())).begin(runs[0])
        return ""


class PhotosReader(Reader):
    """Photos of every format that is read, decoded and turned into squares."""

    name = "photos"
    errors = (BadImage,)
    seconds = 10.0
    megabytes = 1536

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        import io

        from PIL import Image

        from benchmarks.damage import FORMATS

        rng = np.random.default_rng(0)
        picture = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).resize((48, 64))
        kinds = {"JPEG": ("JPEG", {"quality": 80}), **FORMATS}
        for name, (kind, options) in kinds.items():
            for mode in ("RGB", "L", "P", "RGBA", "CMYK", "I;16"):
                stream = io.BytesIO()
                try:
                    picture.convert("I").convert(mode).save(stream, kind, **options) if mode == "I;16" else (
                        picture.convert(mode).save(stream, kind, **options)
                    )
                except (OSError, ValueError, KeyError):
                    continue
                self.samples[f"{name.replace(' ', '-')}-{mode.replace(';', '')}.bin"] = stream.getvalue()
        for mode in ("RGB", "RGBA"):
            with contextlib.suppress(ImportError):
                self.samples[f"HEIC-{mode}.bin"] = heic(picture.convert(mode))

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        return (huge_numbers,)

    def read(self, sample: str, data: bytes) -> str:
        from pipeline.features.backbone.decoding import decode
        from pipeline.features.backbone.photo_file import read_photo

        path = self.home / sample
        put(path, data)
        try:
            data = read_photo(path)
        except OSError:
            return ""  # the caller tells it as the reason for this photo
        pixels = decode(data)
        return "" if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8 else "no RGB picture"


def heic(picture: Any) -> bytes:
    """ImportError where pillow-heif is not installed."""
    import io

    from pillow_heif import from_pillow

    stream = io.BytesIO()
    from_pillow(picture).save(stream, quality=60)
    return stream.getvalue()


def huge_numbers(data: bytes, rng: random.Random) -> bytes:
    """Two or four bytes become a number that asks for much: of pixels, pieces, passes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        size = rng.choice((2, 4))
        at = rng.randrange(min(len(changed), rng.choice((64, 256, 10**9))))
        number = rng.choice((0, 1, 255, 4_096, 65_535, 2**31 - 1, 2**32 - 1, 20_000)) % 256**size
        changed[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return bytes(changed)


class RunsReader(Reader):
    """A run folder: compared, tabled, written and shown on the page."""

    name = "runs"
    errors = (RunError,)
    seconds = 15.0

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        from tests.comparison.runfolder import write_run

        self._run = write_run(home / "run")
        self.samples = {
            str(p.relative_to(self._run)).replace("/", "@"): p.read_bytes() for p in self._run.rglob("*") if p.is_file()
        }

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        kinds: dict[str, tuple[Mutation, ...]] = {".json": (by_json,), ".csv": (by_cells,)}
        return kinds.get(Path(sample).suffix, ())

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        return by_parquet(self.samples[sample], rng) if sample.endswith("parquet") else None

    def read(self, sample: str, data: bytes) -> str:
        from pipeline.comparison.compare import compare
        from pipeline.comparison.csv_file import save_csv
        from pipeline.comparison.page.data import page_data
        from pipeline.comparison.records import save_json
        from pipeline.comparison.table import table

        for name, sound in self.samples.items():
            put(self._run / name.replace("@", "/"), data if name == sample else sound)
        comparison = compare([self._run], CompareOptions(bootstrap=5))
        "".join(map(str, table(comparison))).encode()
        page_data(comparison)
        save_json(comparison, self.home / "c.json")
        save_csv(comparison, self.home / "c.csv")
        return ""


def by_parquet(data: bytes, rng: random.Random) -> bytes:
    """A table with one column of other types, values or rows."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pq.read_table(io.BytesIO(data)).to_pydict()
    name = rng.choice(sorted(content))
    column = content[name]
    at = rng.randrange(len(column))
    odd = (None, float("nan"), float("inf"), 2, -1, 1e30, 2**40, "", "x", "a\0", "../x", b"\xff", [1], {"a": 1}, True)
    change = rng.choice(("cell", "column", "lose", "rename", "rows", "add"))
    if change == "cell":
        column[at] = rng.choice(odd)
    elif change == "column":
        content[name] = [rng.choice(odd)] * len(column)
    elif change == "lose":
        del content[name]
    elif change == "rename":
        content[rng.choice(("", "photo", "part", "p:neck=zz", "x" * 100_000))] = content.pop(name)
    elif change == "rows":
        content = {each: cells * rng.choice((0, 2)) for each, cells in content.items()}
    else:
        content |= {f"c{i}": column for i in range(rng.choice((1, 2_000)))}
    try:
        made = pa.table(content)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError):
        return data  # what no table can hold need not be read
    stream = io.BytesIO()
    pq.write_table(made, stream)
    return stream.getvalue()
