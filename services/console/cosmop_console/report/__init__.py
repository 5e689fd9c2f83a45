"""The report of a pipeline run: one HTML file that needs no network, its numbers as JSON, and each of its tables as CSV beside it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cosmop_common.bus import Bus
from cosmop_common.names import report_key
from cosmop_common.pb.cosmop.v1 import console_pb2
from cosmop_common.store import Store

from cosmop_console.report.gather import gather
from cosmop_console.report.numbers import numbers
from cosmop_console.report.render import render
from cosmop_console.report.tables import tables


@dataclass(frozen=True)
class ReportKeys:
    """Where a report lies in the object store."""

    html_key: str
    json_key: str


async def build_report(bus: Bus, store: Store, run: str, funnel: console_pb2.Funnel) -> ReportKeys:
    """Makes a run's report from what the store and the facts hold now, and stores it.

    Args:
        bus: where the run's state, its collection and the facts are.
        store: read, and written to.
        run: the pipeline run.
        funnel: the collection's counts now.

    Raises:
        NotFoundError: there is no such run.
    """
    data = await gather(bus, store, run, funnel)
    values = numbers(data)
    keys = ReportKeys(report_key(run, "report.html"), report_key(run, "report.json"))
    await store.put_json(keys.json_key, values)
    made = tables(values)
    for name, text in made.items():
        await store.put(table_key(run, name), text.encode(), "text/csv; charset=utf-8")
    page = await asyncio.to_thread(render, data, values, made)
    await store.put(keys.html_key, page.encode(), "text/html; charset=utf-8")
    return keys


def table_key(run: str, name: str) -> str:
    """``reports/<run>/tables/<name>.csv``."""
    return report_key(run, f"tables/{name}.csv")
