"""Errors that a user can act on. `run.py` prints their text and exits 1; anything else is a bug.

PipelineError(ValueError)
├── OptionError       an option, or a pair of options, that cannot work
├── CatalogueError    a data file or folder that cannot be read as a catalogue
├── BackboneError     a backbone, its weights or its runtime that cannot be had
├── RemoteError       a bucket or host of photos that cannot be used
├── BadImage          one photo that cannot become a vector (becomes a row of the rejects table)
│   ├── TooCostly     one that asks for more than this run or this machine allows
│   └── NotFetched    one named by a URL that did not come
├── HeadError         a head or a fit that cannot work
├── RunError          a run folder that is incomplete, or runs that must not be compared
└── ModelFileError    a model file that is damaged, or does not fit the features it is given
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_COMPARED = 100
"""Characters of the longest name that is compared with others: the comparison is quadratic in them."""


LONGEST_TEXT = 4_000
"""Characters of an error's text; of a longer one, which quotes what a file holds, the middle is left out."""

_ENDING = 1_000


def printable(text: str) -> str:
    """The text as it can be written in UTF-8: bytes of names that are not, and halves of surrogates, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class PipelineError(ValueError):
    """Root of everything this package raises on purpose; its text can be written anywhere, whatever it quotes."""

    def __str__(self) -> str:
        text = printable(super().__str__())
        if len(text) <= LONGEST_TEXT:
            return text
        return f"{text[: LONGEST_TEXT - _ENDING]} [...] {text[-_ENDING:]}"


class OptionError(PipelineError):
    """An option, or a pair of options, cannot work; raised before any compute."""


class CatalogueError(PipelineError):
    """A data file or folder cannot be read as a catalogue."""


class BackboneError(PipelineError):
    """A backbone, its weights or its runtime cannot be had."""


class RemoteError(PipelineError):
    """A bucket or a host that photos lie on is not there, may not be read, or does not answer."""


class BadImage(PipelineError):
    """One photo cannot become a vector; the text is the reason stored in the rejects table."""


class TooCostly(BadImage):
    """One photo asks for more than this run or this machine allows; another run may take it."""


class NotFetched(BadImage):
    """A photo named by a URL did not come: its server, the time or the size allowed; another try may bring it."""


def why_unread(error: BadImage | OSError) -> str:
    """Why a photo has no pixels, as findings and rejects say it: what is wrong with it, or what the system said."""
    return str(error) if isinstance(error, BadImage) else error.strerror or str(error)


class HeadError(PipelineError):
    """A head is unknown, or cannot be fit on what it was given."""


class RunError(PipelineError):
    """A run folder is incomplete, or runs cannot be compared with each other."""


class ModelFileError(PipelineError):
    """A model file is damaged, or does not fit the features it is given."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """How many of something, in words that agree: `1 photo`, `2 photos`, `0 entries`.

    Args:
        count: How many.
        noun: One of them.
        plural: Several of them (default: the noun with an s).
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like this one, for a hint.

    Args:
        name: What was asked for.
        known: What there is.

    Returns:
        The nearest known name, "" when none is near.
    """
    return next(iter(nearest_few(name, known, 1)), "")


def nearest_few(name: str, known: Iterable[str], most: int) -> list[str]:
    """The known names that look like this one, the most alike first, at most `most` of them; see `nearest`."""
    import difflib

    if len(name) > LONGEST_COMPARED:
        return []
    return difflib.get_close_matches(name, [each for each in known if len(each) <= LONGEST_COMPARED], most, cutoff=0.5)
