"""Heads of other libraries, without epochs: logistic regression and LightGBM, to compare ours with."""
