"""The command line: it alone parses, prints and exits.

The program begins here: it hears a stopping signal from here on, though what it is made of is not imported yet.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence


def start(argv: Sequence[str] | None = None) -> int:
    """Run one command (see `pipeline.cli.main.main`, which takes over the signals).

    Args:
        argv: Its words, without the program's name (default: those of the process, which ends with the command).

    Returns:
        The exit code: 0 done, 1 expected error, 2 wrong usage, 130 interrupted.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    # Tenths of a second, in which Python would answer Ctrl-C with the traceback of an import.
    from pipeline.cli.main import main

    return main(argv)


def _end(signum: int, frame: object) -> None:
    """Leave at once: an exception could be caught by whatever is being imported."""
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted; nothing was begun\n")
    os._exit(130)
