"""What the machine is and has: cores, memory, GPU, versions. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import OptionError

PACKAGES = ("torch", "timm", "numpy", "scikit-learn", "lightgbm", "pandas", "h5py", "joblib", "openvino")
"""Those whose versions decide a fit's numbers."""

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_GPUS = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
"""Devices of NVIDIA, its boards, Windows' GPUs under WSL, and AMD."""
_FALLBACK_MEMORY = 8 * 2**30


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_size() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's where that is less."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        size = _FALLBACK_MEMORY
    for path in _cgroup_limits():
        with contextlib.suppress(OSError, ValueError):
            # "max" stands where there is no limit, and is no number.
            size = min(size, int(path.read_text(encoding="ascii")))
    return size


def _cgroup_limits() -> Iterator[Path]:
    """The files that limit this process's memory: of its own control group and of all around it, version 1 and 2."""
    lines = []
    with contextlib.suppress(OSError):
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    for line in ["0::/", "1:memory:/", *lines]:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        home, name = (_CGROUPS, "memory.max") if not controllers else (_CGROUPS / "memory", "memory.limit_in_bytes")
        if controllers and "memory" not in controllers.split(","):
            continue
        group = home / own.strip("/")
        yield from (folder / name for folder in (group, *group.parents) if folder.is_relative_to(home))


def memory_limit(gib: float | None) -> int:
    """Bytes of vectors or pixels that may be held at a time.

    Args:
        gib: What --memory says, in GiB (default: half of `memory_size`).
    """
    return memory_size() // 2 if gib is None else int(gib * 2**30)


def choose_device(device: str) -> str:
    """Turn auto into cuda where PyTorch sees a GPU, else cpu.

    Raises:
        OptionError: cuda was asked for and there is none, or the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"device is {device!r}; it can be auto, cpu or cuda")
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device is cuda, but PyTorch sees no GPU here; use --device cpu or auto")
    return device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")


def _may_have_gpu() -> bool:
    """Whether PyTorch is worth asking: its import takes seconds, and on Linux every GPU it could use has a file."""
    if "torch" in sys.modules or sys.platform != "linux":
        return True
    return any(True for pattern in _GPUS for _ in Path("/dev").glob(pattern))


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed `PACKAGES`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def host_facts() -> dict[str, Any]:
    """Operating system, processor architecture and core count; no host name, so that a run can be shared."""
    return {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}
