"""A server of fitted models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.options.features import Device


@dataclass(frozen=True)
class ServeOptions:
    """What is served, to whom, and what a request may cost.

    Attributes:
        model: Model files, or folders that export wrote, separated by commas; NAME=FILE gives one a name (default: that
            of the file). The first is asked where a request names none.
        sha256: Refuse the model files unless their SHA-256 are these, in their order; of a folder, that of its
            model.json.
        host: Address to listen at; 0.0.0.0 is every one of this machine.
        port: Port to listen at; 0 takes a free one.
        batch_wait_ms: Most milliseconds that a photo waits for others to fill its forward pass.
        queue: Photos that may be in the server at a time; a request beyond them is told to come again.
        max_bytes: Bytes of the largest request.
        max_pixels: Photos with more pixels than this are rejected.
        max_photos: Photos of the largest request.
        request_timeout: Seconds in which a request must have come, and in which it must be answered.
        allow_paths: Folder whose photos a request may name by their paths (default: none).
        reload: Read the model files again on SIGHUP or POST /reload.
        weights: Backbone weights file, where the source recorded in the models is not to be had; of several backbones
            one for each, separated by commas.
        threshold: Override the models' thresholds: best, or fixed:0.5 (in short 0.5) and the like for all values.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        batch_size: Photos per forward pass (default: 1 on a CPU, 64 on a GPU).
        workers: Decoding threads.
    """

    model: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    batch_wait_ms: float = 5.0
    queue: int = 256
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_photos: int = 64
    request_timeout: float = 30.0
    allow_paths: Path | None = None
    reload: bool = False
    weights: tuple[Path, ...] = ()
    threshold: str | None = None
    device: Device = "auto"
    runtime: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
