"""Plans of several runs: what `reproduce` reads, what it has begun and finished, and how it carries it out."""
