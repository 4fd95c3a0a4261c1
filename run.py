#!/usr/bin/env python
"""Selvedge from a clone. Installed, the same `start` is the command `selvedge`."""

import sys

from pipeline.cli import start as main

if __name__ == "__main__":
    sys.exit(main())
