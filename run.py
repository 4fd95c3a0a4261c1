#!/usr/bin/env python
"""Selvedge from a clone. Installed, the same `main` is the command `selvedge`."""

import sys

from pipeline.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
