"""Commands that a command is made of: the same words, the same parser, shown as a user would type them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import say
from pipeline.cli.parsing import parse
from pipeline.options.forms.words import typed

if TYPE_CHECKING:
    from cyclopts import App


class Steps:
    """Runs commands of a program, one after the other, in this process.

    Args:
        app: The program whose commands these are.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    def parsed(self, *words: str) -> partial[Any]:
        """The command that these words name, bound and checked, not called.

        Raises:
            cyclopts.CycloptsError, OptionError: As `parse` does.
        """
        return parse(self.app, words)

    def run(self, *words: str) -> None:
        """Show one command and run it."""
        say(f"\n$ {typed(words)}")
        self.parsed(*words)()
