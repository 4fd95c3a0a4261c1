"""On which machines the one pass over the photos is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import OptionError

_MOST_PARTS = 100_000


@dataclass(frozen=True)
class EngineOptions:
    """Which machines see the photos.

    Attributes:
        engine: local (this process), or ray: workers on a cluster, or on this machine where none is joined (needs
            requirements-ray.txt).
        address: Ray cluster to join, auto or HOST:PORT (default: one is started here, and stopped again).
        workers_per_node: Ray workers on each machine (default: one per GPU, one where there is none).
        part: Only this share of the photos, such as 3/16; the others are for other processes, with the same cache.
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    workers_per_node: int | None = None
    part: str | None = None

    def share(self) -> tuple[int, int] | None:
        """Which part was asked for, from 1, and of how many; None for all photos.

        Raises:
            OptionError: It is no part.
        """
        if self.part is None:
            return None
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.part, re.ASCII)
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count <= _MOST_PARTS:
            raise OptionError(
                f"--part is {self.part!r}; expected I/N with I from 1 to N, such as 3/16, and N at most {_MOST_PARTS:,}"
            )
        return number, count

    def require_ray(self) -> None:
        """Refuse options of the ray engine where it is not asked for, and an address that no driver can work with.

        Raises:
            OptionError: It names the option.
        """
        given = {"--address": self.address, "--workers-per-node": self.workers_per_node}
        odd = [name for name, value in given.items() if value is not None]
        if self.engine != "ray" and odd:
            raise OptionError(f"{odd[0]} is for --engine ray; found --engine {self.engine}")
        if self.address is not None and self.address.startswith("ray://"):
            raise OptionError(
                f"--address is {self.address!r}, a Ray client's; run this command on a machine of the cluster, with "
                "--address auto, because it writes to the cluster's shared cache itself"
            )
