"""From any input format to the rows of a catalogue: one reader per format, photos matched, rows kept or dropped."""
