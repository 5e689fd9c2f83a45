"""Reports on this machine: fetched from the store, and told on one screen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from cosmop_common.names import report_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.store import Store

from cosmop_console.cli.target import Target


async def fetch_report(target: Target, run: runs_pb2.Run, folder: Path) -> Path | None:
    """Copies a run's report into a folder, its tables into ``tables`` below; returns the page's path, or None when the run made none."""
    if "html" not in run.result:
        return None
    store = Store(target.connection)
    try:
        html, numbers = await store.get(run.result["html"]), await store.get(run.result["json"])
        keys = [key async for key in store.list(report_key(run.id, "tables/"))]
        tables = {key.rsplit("/", 1)[-1]: await store.get(key) for key in keys}
    finally:
        store.close()

    def write() -> Path:
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            (folder / "tables" / name).write_bytes(table)
        (folder / "report.json").write_bytes(numbers)
        (folder / "report.html").write_bytes(html)
        return (folder / "report.html").resolve()

    return await asyncio.to_thread(write)


def summary(path: Path, seconds: float) -> str:
    """One screen of a report's numbers."""
    values = json.loads(path.read_text(encoding="utf-8"))
    lines = ["", f"{values['collection']}: {values['run']} ({seconds:.0f} s)"]
    if values["provenance"]:
        lines.append(values["provenance"])
    funnel = values["funnel"]
    left = "".join(f" + {name} {funnel[name]}" for name in ("pending", "failed", "erased"))
    duplicates, refused = _counts(funnel["duplicates"]), _counts(funnel["rejected"])
    lines.append(f"  scraped {funnel['scraped']} = unique {funnel['unique']} + duplicates {duplicates} + refused {refused}{left}")
    lines.append(f"  unique  {funnel['unique']} = people {funnel['people']} + none {funnel['none']} + unscreened {funnel['unscreened']}")
    lines.append(f"  labelled {_counts(funnel['labelled'])}")
    for name, title in (("refusals", "refusals"), ("dedup", "duplicates"), ("screen", "people")):
        if truth := (values["truth"] or {}).get(name):
            lines.append(f"  truth   {title}: precision {_value(truth['precision'])}, recall {_value(truth['recall'])}")
    if values["dataset"]:
        lines.append(
            f"  dataset {values['dataset']['version']}: " + ", ".join(f"{split} {sum(c.values())}" for split, c in values["dataset"]["splits"].items())
        )
    if gan := values["gan"]:
        curve = ", ".join(f"{s['kimg']:.2f} kimg {s['value']:.1f}" for s in gan["snapshots"] if s["value"] is not None)
        metric = next((s["metric"] for s in gan["snapshots"] if s["metric"]), "metric")
        lines.append(f"  GAN     {metric}: {curve}; best {gan['best']:.2f} kimg" if gan["best"] is not None else f"  GAN     {gan['ended_because']}")
    for kind, c in values["classifiers"].items():
        lines.append(f"  {kind:<9} " + ", ".join(f"{m} {_value(c[m])}" for m in ("precision", "recall", "accuracy", "auroc")))
    if synthetic := values["synthetic"]:
        lines.append(f"  synthetic {synthetic['positive']} of {synthetic['total']} called positive by the served classifier")
    lines += [f"  question  {finding['sentence']}" for finding in (values["experiment"] or {"findings": {}})["findings"].values()]
    lines += [f"  NOT DONE {name}: {reason}" for name, reason in values["incomplete"].items()]
    return "\n".join([*lines, ""])


def _value(value: dict[str, Any]) -> str:
    if value["value"] is None:
        return "-"
    low, high = value["interval"] or (None, None)
    return f"{value['value']:.3f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")


def _counts(counts: dict[str, int]) -> str:
    parts = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()) if n)
    return f"{sum(counts.values())}" + (f" ({parts})" if parts else "")
