"""What a command says of what its stage returned, as lines of text."""
