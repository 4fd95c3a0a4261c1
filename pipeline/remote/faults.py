"""Why a photo did not come, as far as it decides what happens next."""

from __future__ import annotations

from pipeline.errors import NotFetched


class Later(NotFetched):
    """The server failed, was busy, silent or slow: worth asking again."""


class Unreachable(Later):
    """There is no such host, or nobody answers there."""


class Gone(NotFetched):
    """There is no such photo."""


class BadKey(NotFetched):
    """Something in the bucket is called as no path can be, and its client lists nothing beside it."""


class Refused(NotFetched):
    """It may not be read with these credentials."""
