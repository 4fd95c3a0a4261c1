"""Files of torch.save, read without torch.load: the same content, nothing run, no error that takes for ever."""

from __future__ import annotations

import io
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import BackboneError
from pipeline.features.backbone.torch_file import load_torch_file
from pipeline.features.backbone.weights import read_tensors

CORPUS = Path(__file__).resolve().parents[2] / "corpus" / "weights"
START = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)

DOUBLED = b"Nq\x00" + b"h\x00h\x00\x86q\x00" * 64
"""A tuple of two that are one tuple of two, and so on: its text has 2^64 words."""


def content() -> dict[str, Any]:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    base = torch.arange(10.0)
    views = {"part": base[2:5], "steps": base[::2], "turned": base.reshape(2, 5).T, "whole": base}
    odd = {"bf16": torch.ones(3, dtype=torch.bfloat16), "flag": torch.tensor([True]), "none": torch.empty(0, 3)}
    plain = [None, True, 2**70, 1.5, "é", (1, 2), torch.Size([1, 2]), torch.float16]
    rate = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]).state_dict()
    own = torch.nn.Parameter(torch.ones(2))
    return {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "rate": rate, "own": own, **views, **odd, "plain": plain}  # fmt: skip  # noqa: E501


def same(one: Any, other: Any) -> bool:
    if isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other.detach())
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in other)
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_as_torch_reads_it(zipped: bool) -> None:
    stream = io.BytesIO()
    torch.save(content(), stream, _use_new_zipfile_serialization=zipped)
    stream.seek(0)
    held = load_torch_file(stream)
    stream.seek(0)
    expected = torch.load(stream, weights_only=True)
    for name in expected:
        assert same(held[name], expected[name]), name
    held["whole"][3] = 100
    assert held["part"][1] == 100, "tensors share their storage, as they did"


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (DOUBLED + b")R.", "a call that no weights need"),
        (b"N2\x86.", "it has the pickle code 50, which no weights need"),
        (b"cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "it names os.system, which no weights need"),
        (b"cbuiltins\neval\n.", "it names builtins.eval"),
        (b"ctorch\nload\n.", "it names torch.load"),
        (b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7fNtQ)R.",
         "more numbers than it has bytes"),
    ],
)  # fmt: skip
def test_what_is_no_weights_is_refused_at_once_whatever_its_text_would_be(
    tmp_path: Path, codes: bytes, said: str
) -> None:
    (tmp_path / "w.pth").write_bytes(START + b"\x80\x02" + codes)
    started = time.process_time()
    with pytest.raises(BackboneError, match=rf"cannot read .*w\.pth as weights: .*{said}") as caught:
        read_tensors(tmp_path / "w.pth")
    assert time.process_time() - started < 2 and len(str(caught.value)) < 400


def test_names_that_take_for_ever_to_be_hashed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(START + b"\x80\x02" + DOUBLED + b"}h\x00K\x01s.")
    with pytest.raises(BackboneError, match="another name than a text or number"):
        read_tensors(tmp_path / "w.pth")


def test_a_tensor_outside_its_storage_is_refused() -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.ones(4)}, stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    changed = data.replace(b"K\x04\x85", b"K\x09\x85", 1)
    assert changed != data
    with pytest.raises(pickle.UnpicklingError, match="a tensor has more numbers than its storage"):
        load_torch_file(io.BytesIO(changed))
