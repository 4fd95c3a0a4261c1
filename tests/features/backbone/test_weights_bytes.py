"""Weights and checkpoints that nobody meant: each is read, or refused with a named error."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline.errors import BackboneError, RunError
from pipeline.features.backbone.provenance import FACTS, read_seen
from pipeline.features.backbone.weights import load_net
from pipeline.finetuning.checkpoint import NAME, load_checkpoint, save_checkpoint
from tests.byte_mutations import damaged

CONTENT = {"history": [{"epoch": 1}], "model": {"w": torch.ones(2)}}


def header(path: Path, **said: str) -> str:
    safetensors.torch.save_file({"w": torch.ones(2)}, path, said)
    return str(path)


@pytest.mark.parametrize("facts", ["[" * 100_000, "[]", "7", '{"split": []}', "9" * 5000, "\xff", "{"])
def test_facts_of_another_shape_are_refused(tmp_path: Path, facts: str) -> None:
    path = header(tmp_path / "w.safetensors", **{FACTS: facts})
    with pytest.raises(BackboneError, match=r"w\.safetensors"):
        read_seen(path)


def test_a_header_nested_without_end_is_refused(tmp_path: Path) -> None:
    head = b'{"a":' * 100_000
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    with pytest.raises(BackboneError, match="cannot read which photos .* was trained on"):
        read_seen(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("size", [2**40, 2**64 - 1])
def test_a_header_larger_than_the_file_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", size) + b"{}")
    with pytest.raises(BackboneError, match="cannot read which photos .* was trained on"):
        read_seen(str(tmp_path / "w.safetensors"))


def test_damaged_headers_say_or_are_refused(tmp_path: Path) -> None:
    sound = Path(header(tmp_path / "w.safetensors", **{FACTS: json.dumps({"split": "x", "epochs": [1]})})).read_bytes()
    outcomes = []
    for seed in range(150):
        (tmp_path / "w.safetensors").write_bytes(damaged(sound, seed))
        try:
            read_seen(str(tmp_path / "w.safetensors")).note()
            outcomes.append(True)
        except BackboneError as error:
            assert str(error).encode()
            outcomes.append(False)
    assert {*outcomes} == {True, False}


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_weights_are_refused(tmp_path: Path, ending: str) -> None:
    """A whole network would take long; a table that does not fit is refused after it is read."""
    path = tmp_path / f"w.{ending}"
    if ending == "pth":
        torch.save({"state_dict": CONTENT["model"]}, path, _use_new_zipfile_serialization=False)
    else:
        header(path)
    sound = path.read_bytes()
    for seed in range(150):
        path.write_bytes(damaged(sound, seed))
        with pytest.raises(BackboneError):
            load_net("test_resnet", str(path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints_are_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / NAME
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    sound, outcomes = path.read_bytes(), []
    for seed in range(150):
        path.write_bytes(damaged(sound, seed))
        try:
            assert isinstance(load_checkpoint(tmp_path), dict)
            outcomes.append(True)
        except RunError as error:
            assert str(error).endswith("; remove it to start again")
            outcomes.append(False)
    assert False in outcomes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("data", [b"\x80\x02J\x01.", b"\x80\x02G\x00.", b"\x80\x02)b.", b"\x80\x02h\x07."])
def test_what_pickles_reader_trips_over_is_damage(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(RunError, match="is damaged .*; remove it to start again"):
        load_checkpoint(tmp_path)
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(BackboneError, match="cannot read .*w.pth as weights"):
        load_net("test_resnet", str(tmp_path / "w.pth"))


def test_a_checkpoint_that_holds_something_else_is_damage(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / NAME)
    with pytest.raises(RunError, match="it holds a list; expected a dict.*; remove it to start again"):
        load_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_weights_that_are_no_dense_numbers_are_refused(tmp_path: Path) -> None:
    net = load_net("test_resnet", "random:0")
    tensors = {name: tensor.to_sparse() if tensor.ndim == 4 else tensor for name, tensor in net.state_dict().items()}
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match="cannot read .*w.pth as weights: it names .*, which no weights need"):
        load_net("test_resnet", str(tmp_path / "w.pth"))


def test_a_pipe_is_no_weights_and_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(BackboneError, match="cannot read .* as weights: not a regular file"):
        load_net("test_resnet", str(tmp_path / "w.safetensors"))
    with pytest.raises(BackboneError, match="was trained on: not a regular file"):
        read_seen(str(tmp_path / "w.safetensors"))
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(RunError, match="is damaged .not a regular file"):
        load_checkpoint(tmp_path)


def test_a_sound_checkpoint_is_read_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, CONTENT)
    held = load_checkpoint(tmp_path)
    assert held is not None and held["history"] == CONTENT["history"]
