"""The command line: it alone parses, prints and exits."""
