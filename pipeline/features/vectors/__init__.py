"""Vectors of one backbone, or of several side by side: which columns of the cache they are, and how files name them."""
