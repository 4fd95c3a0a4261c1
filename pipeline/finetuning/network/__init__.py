"""The network that trains: backbone and heads, which part of it moves, its loss, its average over steps."""
