"""The words by which a benchmark is told its catalogue."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.options import DataOptions


def add_catalogue(parser: argparse.ArgumentParser) -> None:
    """The options --data, --images, --image-name and --attributes."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--image-name")
    parser.add_argument("--attributes", default="", help="separated by commas (default: all)")


def catalogue_of(asked: argparse.Namespace) -> DataOptions:
    """What they say."""
    attributes = tuple(filter(None, asked.attributes.split(",")))
    return DataOptions(data=asked.data, images=asked.images, image_name=asked.image_name, attributes=attributes)
