"""Fitted models on labelled photos: **evaluate**, and the run folders it leaves for `compare`."""
