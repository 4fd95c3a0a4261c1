"""What every test shares: fixed seeds, one thread's worth of arithmetic, and no way to the network."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest

MOST_WORKERS = 4
"""A process that has imported everything takes more than a gigabyte."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process per core for folders; none besides this one for single files, which another would wait for."""
    from pipeline.machine import cores

    alone = all(Path(argument.partition("::")[0]).is_file() for argument in config.args)
    return 0 if alone else min(MOST_WORKERS, cores())


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"a test tried to reach {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of PyTorch's: small problems are slower on more, and the number may change the last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
