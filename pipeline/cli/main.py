"""One command from its words to its exit code: what is expected is one line on stderr, anything else is a bug."""

from __future__ import annotations

from pipeline.cli.app import main as main
