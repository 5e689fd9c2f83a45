"""Suspected copies for people to look at: each synthetic image beside its nearest training image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cosmop_common.images import decode_rgb
from PIL import Image, ImageOps

from cosmop_fid_evaluator.neighbours import Copies

_TILE, _GAP, _COLUMNS = 128, 32, 4


@dataclass(frozen=True)
class CopyRow:
    """One candidate, its nearest reference image, and how suspiciously near it is (see ``neighbours.Copies``)."""

    candidate: str
    reference: str
    ratio: float


def copies_rows(found: Copies, reference: Sequence[str], candidate: Sequence[str]) -> list[CopyRow]:
    """All candidates by name, the most suspicious first."""
    return [CopyRow(candidate[i], reference[found.nearest[i]], float(found.ratio[i])) for i in np.argsort(found.ratio, kind="stable")]


def copies_sheet(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Pairs (candidate, its nearest reference image) side by side, four pairs a row, as PNG."""
    rows = -(-len(pairs) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * (2 * _TILE + _GAP) - _GAP, max(1, rows * (_TILE + _GAP) - _GAP)), "white")
    for index, pair in enumerate(pairs):
        row, column = divmod(index, _COLUMNS)
        for side, data in enumerate(pair):
            tile = ImageOps.pad(decode_rgb(data), (_TILE, _TILE), color="white")
            sheet.paste(tile, (column * (2 * _TILE + _GAP) + side * _TILE, row * (_TILE + _GAP)))
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()
