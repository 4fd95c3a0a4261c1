"""Options of the commands that take a model file: what it is tried on, served as, or written as."""
