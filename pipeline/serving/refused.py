"""What a request or a photo is told when it is not served: a status, a reason out of a closed set, a text."""

from __future__ import annotations

import math
from typing import Literal

from pipeline.errors import BadImage, NotFetched, TooCostly

Reason = Literal[
    "bad_request",
    "client_gone",
    "damaged",
    "internal",
    "not_found",
    "not_ready",
    "overloaded",
    "slow",
    "too_costly",
    "too_large",
    "too_many_photos",
]


class Refused(Exception):
    """A request is not served.

    Attributes:
        status: Of the answer.
        reason: One of a few words, by which refusals are counted.
        retry_after: Seconds after which another try may go better, where it may.
    """

    def __init__(self, status: int, reason: Reason, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status, self.reason, self.retry_after = status, reason, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


def reason_of(error: BadImage) -> Reason:
    """The word by which a photo that cannot be taken is counted."""
    if isinstance(error, TooCostly):
        return "too_costly"
    return "not_found" if isinstance(error, NotFetched) else "damaged"


def status_of(errors: list[BadImage]) -> int:
    """The status of an answer none of whose photos could be taken."""
    return 413 if all(isinstance(error, TooCostly) for error in errors) else 422
