"""What all pages of a report are rendered with: the templates' environment, how numbers are spelt, and pictures as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import jinja2
from cosmop_common.errors import CosmopError
from cosmop_common.images import decode_rgb
from PIL import Image

_THUMBNAIL = 150
_SHEET_SIDE, _SHEET_BYTES = 1600, 1_500_000
_DASH = "\u2013"
_MINUS = "\u2212"


def environment() -> jinja2.Environment:
    """Templates with the filters that they use."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("cosmop_console.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "number": number, "interval": interval, "signed": signed, "percent": percent, "picture": picture, "png": png, "words": words,
        "measure": measure, "data_uri": data_uri, "sheet": sheet,
    }  # fmt: skip
    return made


def number(value: float | None, digits: int = 3) -> str:
    """A measured number, or a dash where there is none."""
    if value is None:
        return _DASH
    text = f"{value:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", _MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with its sign."""
    if value is None:
        return _DASH
    text = f"{value:+.{digits}f}"
    return (text if float(text) else text[1:]).replace("-", _MINUS)


def interval(pair: Any, digits: int = 3) -> str:
    """``[low, high]``, or nothing."""
    return f"[{number(pair[0], digits)}, {number(pair[1], digits)}]" if pair else ""


def percent(share: float | None, digits: int = 1) -> str:
    """``70.5 %``."""
    return _DASH if share is None else f"{100 * share:.{digits}f}\u00a0%"


def measure(name: str) -> str:
    """A measure as people write it: ``fid`` is FID."""
    return name.upper() if name in {"fid", "kid", "f1", "auroc"} else name


def words(name: str) -> str:
    """``same_hash`` as text."""
    return name.replace("_", " ")


def data_uri(text: str, media_type: str) -> str:
    """Text as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(text.encode()).decode()}"


def picture(data: bytes, side: int = _THUMBNAIL) -> str:
    """A small copy of an image as a data URI; empty where it cannot be shown."""
    try:
        image = decode_rgb(data, at_least=side)
    except CosmopError:
        return ""
    image.thumbnail((side, side))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def sheet(data: bytes) -> str:
    """A large PNG as a data URI: as it is while that is small, else smaller and as JPEG, so that a report stays a file one can send."""
    return png(data) if len(data) <= _SHEET_BYTES else picture(data, _SHEET_SIDE)


def png(data: bytes, *, enlarge: int = 1) -> str:
    """A PNG as a data URI, small pixels made larger without blur."""
    if enlarge > 1:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        sink = io.BytesIO()
        image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST).save(sink, "PNG")
        data = sink.getvalue()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
