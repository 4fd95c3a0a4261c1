"""The definition of every figure, of the one decision rule and of its thresholds."""
