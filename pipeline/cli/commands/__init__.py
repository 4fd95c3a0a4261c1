"""Commands beside the way from photos to a model: each binds its options, calls its stage and prints what comes."""
