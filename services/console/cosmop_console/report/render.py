"""The report as one HTML file: no script, no network, prints on A4."""

from __future__ import annotations

import base64
import io
from typing import Any

import jinja2
from cosmop_common.errors import CosmopError
from cosmop_common.images import decode_rgb
from PIL import Image

from cosmop_console.report import plots
from cosmop_console.report.gather import ReportData

_THUMBNAIL = 150
_TITLES = {
    "fit": "fit the human filter", "scrape": "scrape", "dedup": "deduplicate", "screen": "screen for people", "label": "import labels",
    "freeze": "freeze the dataset", "gan": "train the generator", "fid": "evaluate snapshots", "binary": "train binary classifier",
    "one-class": "train one-class classifiers", "synthetic": "make synthetic images",
    "judge": "classify synthetic images", "report": "report", "collect": "collect",
}  # fmt: skip


def render(data: ReportData, values: dict[str, Any]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cosmop_console.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "interval": interval, "picture": picture, "png": png, "title_of": lambda name: _TITLES.get(name, name)}
    return environment.get_template("report.html.j2").render(
        data=data, values=values, funnel_rows=_funnel_rows(values["funnel"]), curve=_curve(values["gan"]), histogram=_histogram(data)
    )


def number(value: float | None, digits: int = 3) -> str:
    """A measured number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001 - a dash in print


def interval(pair: list[float] | None, digits: int = 3) -> str:
    """``[low, high]``, or nothing."""
    return f"[{pair[0]:.{digits}f}, {pair[1]:.{digits}f}]" if pair else ""


def picture(data: bytes) -> str:
    """A small copy of an image as a data URI; empty where it cannot be shown."""
    try:
        image = decode_rgb(data, at_least=_THUMBNAIL)
    except CosmopError:
        return ""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def png(data: bytes, *, enlarge: int = 1) -> str:
    """A PNG as a data URI, small pixels made larger without blur."""
    if enlarge > 1:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        sink = io.BytesIO()
        image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST).save(sink, "PNG")
        data = sink.getvalue()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _funnel_rows(funnel: dict[str, Any]) -> list[dict[str, Any]]:
    """What is left after each step, with what left it there."""
    total = max(1, funnel["scraped"])
    rejected, duplicates = sum(funnel["rejected"].values()), sum(funnel["duplicates"].values())
    rows = [
        ("downloads completed", funnel["scraped"], ""),
        ("readable images", funnel["scraped"] - rejected, _parts(funnel["rejected"])),
        ("unique", funnel["unique"], _parts({k.replace("_", " "): n for k, n in funnel["duplicates"].items()}) if duplicates else ""),
        ("with people", funnel["people"], f"no people {funnel['none']}"),
        ("labelled", sum(funnel["labelled"].values()), _parts(funnel["labelled"], lost=False)),
    ]
    return [{"name": name, "count": count, "share": 100 * count / total, "note": note} for name, count, note in rows]


def _parts(counts: dict[str, int], *, lost: bool = True) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {chr(0x2212) if lost else ''}{n}" for name, n in sorted(counts.items(), key=lambda kv: -kv[1]) if n)


def _curve(gan: dict[str, Any] | None) -> str:
    judged = [s for s in gan["snapshots"] if s["value"] is not None] if gan else []
    if not gan or not judged:
        return ""
    intervals = [tuple(s["interval"]) if s["interval"] else None for s in judged]
    return plots.curve([s["kimg"] for s in judged], [s["value"] for s in judged], intervals, metric=judged[0]["metric"], best=gan["best"])


def _histogram(data: ReportData) -> str:
    if data.synthetic is None or "binary" not in data.classifiers:
        return ""
    return plots.histogram(list(data.synthetic.probabilities.values()), data.classifiers["binary"].card.threshold)
