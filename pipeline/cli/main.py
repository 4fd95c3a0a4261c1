"""One command from its words to its exit code: what a user can act on is one line on stderr, anything else is a bug."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cyclopts import CycloptsError, UnknownOptionError

from pipeline.cli.app import app
from pipeline.cli.parsing import parse
from pipeline.errors import PipelineError
from pipeline.options.words import PROGRAM


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's name (default: those of the process).

    Returns:
        The exit code: 0 done, 1 expected error, 2 wrong usage, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = parse(app, words)()
    except CycloptsError as error:
        print(f"{_wrong_usage(error)}\nTry: {' '.join([PROGRAM, *words[:1]])} --help", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        text = _expected(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


def _wrong_usage(error: CycloptsError) -> str:
    """The parser's text, with the option that the initials of an unknown one name: its letters are nearer to others."""
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value or "").partition("=")[0]
        words = option.removeprefix("--").replace("_", "-").split("-")
        initials = "--" + "".join(word[:1] for word in words)
        if len(words) > 1 and any(initials in argument.names for argument in error.argument_collection):
            return f"Unknown option: {option}. Did you mean {initials}?"
    return str(error)


def _expected(error: Exception) -> str | None:
    """What to tell the user of an error that they can act on; None for a bug."""
    from cache.errors import CacheError  # imported only when something went wrong

    if isinstance(error, PipelineError | CacheError):
        return str(error)
    # A folder that may not be written, a full disk, a file where a folder goes; a file of ours that is gone is a bug.
    if isinstance(error, OSError) and error.filename and not _is_ours(os.fsdecode(error.filename)):
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return None


def _is_ours(name: str) -> bool:
    """Whether a file belongs to this code or to the installed packages, and not to the user."""
    packages = Path(__file__).resolve().parents[2]
    homes = (packages / "pipeline", packages / "cache", Path(sys.prefix) / "lib")
    return any(Path(name).resolve().is_relative_to(home) for home in homes)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
