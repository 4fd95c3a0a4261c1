"""One command from its words to its exit code: what a user can act on is one line on stderr, anything else is a bug."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from cyclopts import CycloptsError, UnknownOptionError

from pipeline.cli.app import app
from pipeline.cli.faults import told
from pipeline.cli.parsing import parse
from pipeline.options.forms.words import PROGRAM, by_initials

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command after it has put in order what it was at."""

_came: list[int] = []
"""Those that came while this command ran."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words, without the program's name (default: those of the process, which ends with the command).

    Returns:
        The exit code: 0 done, 1 expected error, 2 wrong usage, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _listen()
        code = _run(words)
        code = _flush(code)
        if argv is None:
            _ignore_signals()
    except KeyboardInterrupt:
        if argv is None:
            _ignore_signals()
        _say("interrupted; what was finished is kept, the same command goes on from there")
        return 130
    return code


def _run(words: Sequence[str]) -> int:
    try:
        code = parse(app, words)()
    except CycloptsError as error:
        _say(f"{_wrong_usage(error)}\nTry: {' '.join([PROGRAM, *words[:1]])} --help")
        return 2
    except BrokenPipeError:
        # Whoever read the output has gone, and so has the place to say anything.
        _close(sys.stdout)
        return 1
    except Exception as error:
        if _came:
            # A library that calls Python back may make an error of its own of what the handler raised there.
            raise KeyboardInterrupt from error
        text = told(error)
        if text is None:
            raise
        _say(f"error: {text}")
        return 1
    return code if isinstance(code, int) else 0


def _say(text: str) -> None:
    """Print to standard error, which may be closed or full."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _close(sys.stderr)


def _wrong_usage(error: CycloptsError) -> str:
    """The parser's text, with the option that the initials of an unknown one name: its letters are nearer to others."""
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value or "").partition("=")[0]
        names = {name.removeprefix("--") for argument in error.argument_collection for name in argument.names}
        if short := by_initials(option.removeprefix("--"), names):
            return f"Unknown option: {option}. Did you mean --{short}?"
    return str(error)


def _flush(code: int) -> int:
    """Write what standard output still holds while a failure can be told; returns the exit code."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _close(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _say(f"error: {told(error) or error}")
        return 1
    return code


def _close(stream: TextIO) -> None:
    """Send what a stream still holds nowhere, or Python tries, and complains, once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _listen() -> None:
    """Have every stopping signal end the command as Ctrl-C does; one that is ignored, as nohup does, stays so."""
    _came.clear()
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _ignore_signals() -> None:
    """The work is done or given up: nothing that still comes may make a traceback of it."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(signum: int, frame: object) -> NoReturn:
    _came.append(signum)
    raise KeyboardInterrupt
