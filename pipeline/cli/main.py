"""One command from its words to its exit code: what a user can act on is one line on stderr, anything else is a bug."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import CycloptsError

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
        print(f"{error}\nTry: {' '.join([PROGRAM, *words[:1]])} --help", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _expected(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0


def _expected(error: Exception) -> bool:
    """Whether an error is one that the user can act on; the cache is imported only when something went wrong."""
    from cache.errors import CacheError

    # An OSError that names a file is a folder that may not be written, a disk that is full, a file where a folder goes.
    return isinstance(error, PipelineError | CacheError) or (isinstance(error, OSError) and bool(error.filename))


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
