"""Whether a file is there to its end, where decoding its first picture alone does not show it. Pure.

Pillow stops reading a PNG at its last pixel and a GIF at its first frame; what is cut off behind goes unnoticed.
JPEG, WebP, AVIF, BMP and single TIFF need no such look: their decoders miss a single byte.
"""

from __future__ import annotations

_PNG = b"\x89PNG\r\n\x1a\n"
_IEND = b"\0\0\0\0IEND\xae\x42\x60\x82"
_GIF_HEADER_BYTES = 13
_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B


def missing_end(data: bytes) -> str | None:
    """What a PNG or GIF lacks at its end, in words; None for a whole file, and for other formats."""
    if data.startswith(_PNG):
        return None if _IEND in data else "its IEND chunk is missing"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return None if _gif_is_whole(data) else "its trailer is missing"
    return None


def _gif_is_whole(data: bytes) -> bool:
    """Walks the blocks to the trailer (GIF89a specification, sections 15 to 27)."""
    try:
        at = _GIF_HEADER_BYTES + _table_bytes(data[10])
        while data[at] != _GIF_TRAILER:
            if data[at] == _GIF_EXTENSION:
                at += 2
            elif data[at] == _GIF_IMAGE:
                at += 11 + _table_bytes(data[at + 9])
            else:  # a stray byte between blocks: decoders skip it
                at += 1
                continue
            while size := data[at]:
                at += 1 + size
            at += 1
    except IndexError:
        return False
    return True


def _table_bytes(packed: int) -> int:
    """Size of the colour table that a packed field announces."""
    return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0
