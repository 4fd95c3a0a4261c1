"""What one photo may cost. A photo beyond a limit is refused before the work is done, with the limit in the reason.

No decoder can be stopped in the middle, so the work is bounded beforehand; the time per photo follows from it. What
the costliest files within all limits take was measured: see docs/CACHE.md, "Photos".
"""

from __future__ import annotations

from pipeline.options import ExtractOptions
from pipeline.remote.limits import MAX_BYTES

MAX_PIXELS = ExtractOptions.max_pixels
"""Width times height, unless the caller gives another limit: `extract --max-pixels`."""

MAX_FILE_BYTES = MAX_BYTES
"""A file is held in memory whole. The uncompressed TIFF of a 61-megapixel camera has 183 MB."""

MAX_DECODED_BYTES = 2**30
"""Memory at the peak of decoding one photo: width x height x what a pixel takes in that format, 8 to 25 bytes."""

MAX_SCANS = 100
"""Passes over the whole picture that a JPEG may ask for; usual progressive ones have about ten."""

MAX_READS = 500_000
"""Pieces of a file that are read one by one, such as segments, chunks and blocks before the picture."""
