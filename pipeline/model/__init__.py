"""The model file, and what applies it to new photos."""
