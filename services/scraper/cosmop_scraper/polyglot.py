"""Whether an image's bytes are something else as well: an archive, a document, a script. Pure.

Such files decode as images and do their harm elsewhere: unpacked, opened, or run by whoever is handed the dataset.
A video appended to a photograph (motion photos of telephones) is no such thing.
"""

from __future__ import annotations

import struct

_SCRIPTS = (b"<?php", b"<script", b"<SCRIPT")
_ARCHIVES = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")
_END_OF_ZIP = b"PK\x05\x06"
_END_OF_ZIP_BYTES = 22
#: PDF readers look for its mark in the first kilobyte (ISO 32000, annex H).
_PDF_WITHIN = 1024


def second_nature(data: bytes) -> str | None:
    """What else the bytes are, in words; None when they are an image only."""
    if any(mark in data for mark in _SCRIPTS):
        return "a script"
    if b"%PDF-" in data[:_PDF_WITHIN]:
        return "a PDF document"
    if any(mark in data for mark in _ARCHIVES) or _is_zip(data):
        return "an archive"
    return None


def _is_zip(data: bytes) -> bool:
    """A ZIP's directory stands at the end, behind it only a comment whose length it states (APPNOTE.TXT, 4.3.16)."""
    start = data.rfind(_END_OF_ZIP, max(0, len(data) - _END_OF_ZIP_BYTES - 0xFFFF))
    if start < 0 or start + _END_OF_ZIP_BYTES > len(data):
        return False
    (comment,) = struct.unpack_from("<H", data, start + 20)
    return start + _END_OF_ZIP_BYTES + int(comment) == len(data)
