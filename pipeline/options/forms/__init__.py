"""The forms options take outside: words of a command, a YAML file, and the bounds both are held to."""
