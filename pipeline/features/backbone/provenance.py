"""Which photos' labels had a part in a backbone's weights, and where that is written down.

    fine-tuned weights (.safetensors header) ──▶ extract ──▶ cache, beside the key ──▶ fit-heads will not test on them

The ids stand in the header of the weights file, so a copy of the file carries them; the tensors, and with them the
weights' digest, do not know of it. Writing the tensors to a new file, such as a .pth, loses them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureCache, IdIndex, Ids, KeyInfo, as_ids
from pipeline.catalogue import Split
from pipeline.errors import BackboneError, OptionError
from pipeline.shapes import mapping, text
from pipeline.system import open_regular, parsed

FACTS, TRAIN, CHOICE = "selvedge_finetune", "trained_on", "chosen_on"
NOTE = "fine_tuned"

_MOST = 2_000_000
_MOST_HEADER_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class TrainingProvenance:
    """Content ids of the photos whose labels had a part in some weights; none for weights that we did not train.

    Attributes:
        train: S32 (n,), sorted; their labels moved the weights.
        choice: S32 (m,), sorted; their labels chose the epoch (validation rows of the fine-tuning).
        facts: What else the weights file says of its making: backbone, start, key, split and options.
    """

    train: Ids
    choice: Ids
    facts: Mapping[str, Any]

    def __bool__(self) -> bool:
        return bool(len(self.train) or len(self.choice))

    def note(self) -> dict[str, Any]:
        """What the cache's key.json says: how many there are, and which split was used."""
        return {NOTE: {"train": len(self.train), "choice": len(self.choice), "split": self.facts.get("split", "")}}

    def metadata(self) -> dict[str, str]:
        """Header entries of a weights file; `read_seen` inverts it.

        Raises:
            OptionError: There are more photos than such a header can hold.
        """
        if len(self.train) + len(self.choice) > _MOST:
            count = len(self.train) + len(self.choice)
            raise OptionError(
                f"{count} photos cannot be listed in a weights file; fine-tune on at most {_MOST} of them"
            )
        listed = {TRAIN: _text(self.train), CHOICE: _text(self.choice)} if self else {}
        return {"format": "pt", FACTS: json.dumps(self.facts), **listed}


def joined(first: TrainingProvenance, second: TrainingProvenance) -> TrainingProvenance:
    """The photos of either; the facts of the second. A photo that moved the weights counts as that alone."""
    train = np.union1d(first.train, second.train)
    choice = np.setdiff1d(np.union1d(first.choice, second.choice), train)
    return TrainingProvenance(train, choice, second.facts)


def nothing_seen() -> TrainingProvenance:
    """What is known of weights that say nothing."""
    return TrainingProvenance(as_ids(()), as_ids(()), {})


def read_seen(weights: str) -> TrainingProvenance:
    """What a weights file says of its making; nothing for hub, package, random:SEED and files that do not say.

    Raises:
        BackboneError: The file says something that cannot be read.
    """
    path = Path(weights)
    if path.suffix != ".safetensors" or not path.exists():
        return nothing_seen()
    with parsed(BackboneError, f"cannot read which photos {path} was trained on: "):
        said = _metadata(path)
        facts = json.loads(said.get(FACTS, "{}"))
        if not isinstance(facts, dict) or not isinstance(facts.get("split", ""), str):
            raise BackboneError(f"{path}: the header entry {FACTS} is no object of facts with the name of a split")
        return TrainingProvenance(_ids(said.get(TRAIN, "")), _ids(said.get(CHOICE, "")), facts)


def _metadata(path: Path) -> dict[str, str]:
    """The texts in the header of a .safetensors file: its length in eight bytes, then JSON."""
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _MOST_HEADER_BYTES:
            raise ValueError(f"its header is said to have {size} bytes; expected at most {_MOST_HEADER_BYTES}")
        header = json.loads(file.read(size).decode("utf-8"))
    said = header.get("__metadata__") or {}
    mapping(text)(said, "__metadata__")
    return dict(said)


def seen_of_key(cache: FeatureCache, info: KeyInfo) -> TrainingProvenance:
    """What `extract` wrote down beside the vectors of one key.

    Raises:
        OptionError: The key's notes say that there was something and it is gone.
        CacheError: It is damaged.
    """
    ids = {name: cache.attached_ids(info.digest, name) for name in (TRAIN, CHOICE)}
    said = info.notes.get(NOTE) or {"train": 0, "choice": 0}
    if len(ids[TRAIN]) < said["train"] or len(ids[CHOICE]) < said["choice"]:
        raise OptionError(
            f"the list of photos that {info.notes.get('weights_source', 'the backbone')} was trained on is gone from "
            f"{cache.root / info.digest[:16]}; run the same extract command again, which writes it again"
        )
    return TrainingProvenance(ids[TRAIN], ids[CHOICE], {"split": said.get("split", "")})


def require_unseen(provenance: TrainingProvenance, ids: Ids, split: Split, source: str) -> None:
    """Refuse to validate or test on photos that trained the backbone, and to test on those that chose its epoch.

    Args:
        ids: S32 (n,), the photos of `split`.
        source: What the error calls the weights.

    Raises:
        OptionError: Photos of these parts trained the weights; with the counts.
    """
    part_of = {part: ids[split.rows(part)] for part in ("validation", "test")}
    trained = {part: _common(provenance.train, photos) for part, photos in part_of.items()}
    chosen = _common(provenance.choice, part_of["test"])
    if not any(trained.values()) and not chosen:
        return
    folder = provenance.facts.get("split") or "FOLDER/split.csv"
    said = [f"{count} of the {len(part_of[part])} {part} photos" for part, count in trained.items() if count]
    parts = [f"{' and '.join(said)} trained it"] if said else []
    parts += [f"{chosen} of the {len(part_of['test'])} test photos chose its epoch"] if chosen else []
    raise OptionError(
        f"this split would judge the fine-tuned backbone {source} on photos it has learnt from: {', '.join(parts)}. "
        f"Take the split it was trained with: --split-from {folder}"
    )


def _common(used: Ids, photos: Ids) -> int:
    return int((IdIndex(used).find(photos) >= 0).sum())


def _text(ids: Ids) -> str:
    return base64.b64encode(as_ids(ids).tobytes()).decode("ascii")


def _ids(text: str) -> Ids:
    data = base64.b64decode(text, validate=True)
    if len(data) % 32:
        raise ValueError(f"{len(data)} bytes of content ids; expected 32 each")
    return np.frombuffer(data, dtype="S32")
