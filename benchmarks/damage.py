"""Damaged photos: how many are refused, how many still give the right pixels, how many give wrong ones.

    python benchmarks/damage.py --images FOLDER --photos 60

Photos of the folder, as they are and saved in every other format that is read, are damaged in every way of `DAMAGES`
and decoded as `extract` decodes them. A wrong one is the failure that matters: it would be a wrong vector in the cache.
A flipped bit lies anywhere in the file; in the metadata it is often harmless ("same"). Same arguments, same figures.
Without --images photos are drawn.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.errors import BadImage
from pipeline.features.backbone.decoding import decode
from pipeline.machine import cores

BLOCK = 512
FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG progressive": ("JPEG", {"quality": 85, "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"quality": 80, "method": 2}),
    "WebP lossless": ("WEBP", {"lossless": True, "method": 0}),
    "GIF": ("GIF", {}),
    "TIFF deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF raw": ("TIFF", {}),
    "BMP": ("BMP", {}),
    "PPM": ("PPM", {}),
    "JPEG 2000": ("JPEG2000", {"quality_mode": "rates", "quality_layers": [12]}),
    "AVIF": ("AVIF", {"quality": 70, "speed": 10}),
}


def zeroed_tail(data: bytes, rng: random.Random) -> bytes:
    """What a crash leaves of a file whose size was written before its content."""
    keep = rng.randrange(len(data) // 20, len(data) - 20)
    return data[:keep] + bytes(len(data) - keep)


def flipped_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def zeroed_block(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(max(1, len(data) // BLOCK)) * BLOCK
    return data[:at] + bytes(len(data[at : at + BLOCK])) + data[at + BLOCK :]


def cut(share: float) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, rng: data[: int(share * len(data))]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "zeroed tail": zeroed_tail,
    "cut to 10 %": cut(0.1),
    "cut to 50 %": cut(0.5),
    "cut to 90 %": cut(0.9),
    "cut to 99 %": cut(0.99),
    "2 bytes cut off": lambda data, rng: data[:-2],
    "one bit flipped": flipped_bit,
    f"{BLOCK} bytes zeroed": zeroed_block,
    f"{BLOCK} bytes appended": lambda data, rng: data + rng.randbytes(BLOCK),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photos (default: drawn ones)")
    parser.add_argument("--photos", type=int, default=60, help="photos per format")
    parser.add_argument("--times", type=int, default=2, help="how often each photo is damaged in each way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def drawn(count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 18, 3), dtype=np.uint8))
        yield encoded(coarse.resize((400, 533), Image.Resampling.BICUBIC), "JPEG", quality=90)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def variants(photo: bytes) -> Iterator[tuple[str, bytes]]:
    yield "JPEG as found", photo
    with Image.open(io.BytesIO(photo)) as image:
        picture = image.convert("RGB")
    for name, (kind, options) in FORMATS.items():
        if kind in Image.SAVE:
            yield name, encoded(picture, kind, **options)


def outcome(data: bytes, right: np.ndarray) -> str:
    try:
        pixels = decode(data)
    except BadImage:
        return "refused"
    return "same" if np.array_equal(pixels, right) else "wrong"


def damage_one(number: int, photo: bytes, args: argparse.Namespace) -> Counter[tuple[str, str, str]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for kind, data in variants(photo):
        right = decode(data)
        counts[kind, "intact", outcome(data, right)] += 1
        for name, damage in DAMAGES.items():
            rng = random.Random(f"{args.seed} {number} {kind} {name}")
            for _ in range(args.times):
                counts[kind, name, outcome(damage(data, rng), right)] += 1
    return counts


def main() -> None:
    args = parse()
    if args.images is None:
        photos = list(drawn(args.photos))
    else:
        found = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        photos = [path.read_bytes() for path in random.Random(args.seed).sample(found, min(args.photos, len(found)))]
    Image.init()
    counts: Counter[tuple[str, str, str]] = Counter()
    with ThreadPoolExecutor(cores()) as pool:
        for part in pool.map(lambda job: damage_one(*job, args), enumerate(photos)):
            counts += part
    print(f"{'format':<18}{'damage':<20}{'refused':>9}{'same':>8}{'wrong':>8}")
    for kind in dict.fromkeys(kind for kind, _, _ in counts):
        for name in ("intact", *DAMAGES):
            row = [counts[kind, name, what] for what in ("refused", "same", "wrong")]
            print(f"{kind:<18}{name:<20}{row[0]:>9}{row[1]:>8}{row[2]:>8}")
    if args.json:
        figures = [[*key, count] for key, count in sorted(counts.items())]
        args.json.write_text(json.dumps({"photos": len(photos), "times": args.times, "counts": figures}, indent=1))


if __name__ == "__main__":
    main()
