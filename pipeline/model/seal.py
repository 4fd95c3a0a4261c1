"""The digest that a model file carries of itself, so that changed bytes are seen also without the `.sha256` beside it.

    the pickle that joblib writes, then one line: selvedge-sha256 <SHA-256 of all before it>

joblib stops reading at the pickle's end and never sees the line; of a compressed file, both are inside the compression.
Files from before have no line. Damage is detected, not tampering: whoever changes the file can change the line.
"""

from __future__ import annotations

import hashlib
import re
import zlib

from pipeline.errors import ModelFileError

_LINE = re.compile(rb"\nselvedge-sha256 ([0-9a-f]{64})\n")
_LINE_BYTES = len("\nselvedge-sha256 \n") + 64
_PICKLE, _ZLIB = b"\x80", b"x"
_LEVEL = 3


def sealed(content: bytes, compress: bool) -> bytes:
    """A model file's bytes for what joblib wrote without compression."""
    line = f"\nselvedge-sha256 {hashlib.sha256(content).hexdigest()}\n".encode()
    return zlib.compress(content + line, _LEVEL) if compress else content + line


def unsealed(data: bytes, name: str) -> tuple[bytes, bool]:
    """What joblib is to read of a model file's bytes, uncompressed, and whether a digest says that it is whole.

    Args:
        data: The bytes.
        name: The file's, for errors.

    Raises:
        ModelFileError: They are no model file, or not what was written.
        ValueError, zlib.error: They are compressed, and not to be unpacked.
    """
    if data.startswith(_ZLIB):
        unpacked = zlib.decompressobj()
        data = unpacked.decompress(data)
        # joblib would look for more of it for ever.
        if not unpacked.eof or unpacked.unused_data:
            raise ValueError("its compressed content has no end, or something after it")
    if not data.startswith(_PICKLE):
        raise ModelFileError(
            f"{name} is no model file: it does not begin like one. Models are in the folder models of a run, such as"
            " runs/first/models/best.joblib"
        )
    line = _LINE.fullmatch(data[-_LINE_BYTES:])
    if line is None:
        return data, False
    content = data[:-_LINE_BYTES]
    if hashlib.sha256(content).hexdigest().encode() != line[1]:
        raise ModelFileError(f"{name} is damaged: it is not what its last line says was written; copy it again")
    return content, True
