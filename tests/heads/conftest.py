"""Heads are fitted on one thread, all of them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _on_one_thread(one_thread: None) -> None:
    """Every test of a head runs under `one_thread`."""
