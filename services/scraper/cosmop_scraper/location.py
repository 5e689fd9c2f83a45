"""Where a photo says that it was taken: its EXIF GPS position. Read only for collections that ask for it. Pure.

A position may be somebody's home. It stays in the image's bytes, which are kept as they came, and joins the facts only
where the collection says ``keep_location``.
"""

from __future__ import annotations

import math

from cosmop_common.errors import RefusedImageError
from cosmop_common.images import open_image
from cosmop_common.pb.cosmop.v1 import facts_pb2

_GPS_IFD = 0x8825
#: Tags of the GPS IFD (EXIF 2.32, table 15).
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4


def location_of(data: bytes) -> facts_pb2.Location | None:
    """The position in degrees, north and east positive; None where there is none, or it cannot be read."""
    try:
        position = open_image(data).getexif().get_ifd(_GPS_IFD)
        latitude = _degrees(position[_LATITUDE], str(position.get(_LATITUDE_REF, "N")), "S")
        longitude = _degrees(position[_LONGITUDE], str(position.get(_LONGITUDE_REF, "E")), "W")
    except (RefusedImageError, KeyError, TypeError, ValueError, ZeroDivisionError, OSError, SyntaxError):
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # noqa: PLR2004 - the poles and the date line
        return None
    return facts_pb2.Location(latitude=latitude, longitude=longitude)


def _degrees(parts: tuple[float, float, float], half: str, negative: str) -> float:
    """Degrees, minutes and seconds as one number. Raises ``ValueError`` for what is none."""
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value):
        raise ValueError(f"{parts} is no angle")
    return -value if half.strip().upper().startswith(negative) else value
