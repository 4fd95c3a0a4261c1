"""How much is read, how often it is tried, and how many photos are on their way at a time."""

MAX_BYTES = 2**28
"""Most bytes of a photo, wherever it lies."""

MAX_ALONE = 2**26
"""Most bytes of a photo that is named by a URL of its own, whose size nobody has listed."""

TIMEOUT, LONGEST = 10.0, 30.0
"""Seconds in which a server must answer or send on, and in which all of the photo must be there."""

ATTEMPTS, FIRST_WAIT = 4, 0.2
"""How often a photo is asked for, and the seconds before it is asked for again; they double each time."""

IN_A_ROW = 20
"""Photos of one host that did not come, with none that did between them, after which no more are asked for."""

READERS = 16
"""Photos that are read at a time: they cost waiting, not computing."""

AHEAD_BYTES, UNKNOWN_BYTES = 2**28, 2**23
"""Bytes of photos that are read before they are decoded, and what one counts for whose size is not known."""
