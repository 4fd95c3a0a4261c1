"""Several kinds of vectors in one experiment: reading them, fitting heads on all or on one of them, model files."""
