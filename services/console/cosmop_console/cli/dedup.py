"""``cosmop dedup report``: which images are copies of which, and why that one is kept; as a table, JSON, CSV or a page with pictures."""

from __future__ import annotations

import asyncio
import csv
import html
import io
import json
from base64 import b64encode
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from cosmop_common.errors import CosmopError
from cosmop_common.pb.cosmop.v1 import console_pb2, dedup_pb2
from cosmop_common.store import Store

from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say
from cosmop_console.clients import known_error
from cosmop_console.thumbnails import SIZES, render

#: More copies of one image than these have no picture on the page.
_SHOWN = 12


@dataclass(frozen=True)
class Copy:
    """One row of the report: a duplicate beside the image that is kept."""

    collection: str
    kept: str
    copy: str
    #: ``same_hash``, ``near``, or ``grey``: beyond the collection's distance, and alike to a network.
    kind: str
    distance: int
    why_kept: str
    kept_pixels: int
    kept_bytes: int
    copy_pixels: int
    copy_bytes: int


async def report(target: Target, collection: str, form: str, page: Path | None, limit: int) -> None:
    """Lists the clusters of one collection, or of all.

    Args:
        form: "table", "json" or "csv".
        page: a file for the pictures; then nothing else is written.
        limit: clusters of each collection.
    """
    copies = [copy for name, clusters, stats in await _ask(target, collection, limit) for cluster in clusters for copy in rows(name, cluster, stats.threshold)]
    if page is None:
        say({"table": as_table, "json": as_json, "csv": as_csv}[form](copies))
        return
    await asyncio.to_thread(page.write_text, await as_page(target, copies), encoding="utf-8")
    say(f"{len(copies)} copies of {len({(c.collection, c.kept) for c in copies})} images: {page}")


async def _ask(target: Target, collection: str, limit: int) -> list[tuple[str, list[dedup_pb2.Cluster], dedup_pb2.StatsResponse]]:
    async with target.services() as services:
        try:
            names = [collection] if collection else [c.name for c in (await services.console.ListCollections(console_pb2.ListCollectionsRequest())).collections]
        except grpc.aio.AioRpcError as error:
            raise known_error(error, "console") from error
        found = []
        for name in names:
            try:
                clusters = await services.dedup.ListClusters(dedup_pb2.ListClustersRequest(collection=name, limit=limit))
                found.append((name, list(clusters.clusters), await services.dedup.Stats(dedup_pb2.StatsRequest(collection=name))))
            except grpc.aio.AioRpcError as error:
                # One that nothing was scraped into has no clusters; only where it was asked for by name is that an error.
                if collection or error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise known_error(error, "dedup") from error
        return found


def rows(collection: str, cluster: dedup_pb2.Cluster, threshold: int) -> list[Copy]:
    """A cluster's copies."""
    return [
        Copy(collection, cluster.kept, n.image, kind(n.distance, threshold), n.distance, why(cluster, n), cluster.pixels, cluster.size, n.pixels, n.size)
        for n in cluster.duplicates
    ]


def kind(distance: int, threshold: int) -> str:
    """What makes it a copy."""
    return "same_hash" if distance == 0 else "near" if distance <= threshold else "grey"


def why(cluster: dedup_pb2.Cluster, copy: dedup_pb2.Neighbour) -> str:
    """Why the kept image ranks before its copy: pixels, then bytes, then the id."""
    if cluster.pixels != copy.pixels:
        return f"{cluster.pixels / max(1, copy.pixels):.3g} times its pixels"
    if cluster.size != copy.size:
        return f"as large, {cluster.size - copy.size:,} bytes more"
    return "as large and as long, smaller sha256"


def as_table(copies: list[Copy]) -> str:
    """For the eye: each kept image with its copies below."""
    if not copies:
        return "no copies: no two images are within the collection's distance of each other"
    lines: list[str] = []
    last = None
    for copy in copies:
        if (copy.collection, copy.kept) != last:
            last = (copy.collection, copy.kept)
            lines.append(f"{copy.collection}  {copy.kept}  {copy.kept_pixels / 1e6:.2f} MP  {copy.kept_bytes:,} bytes")
        lines.append(f"    {copy.copy}  {copy.kind:<9} {copy.distance:>2} bits  {copy.copy_pixels / 1e6:.2f} MP  kept: {copy.why_kept}")
    return "\n".join(lines)


def as_json(copies: list[Copy]) -> str:
    """A list of objects."""
    return json.dumps([asdict(copy) for copy in copies], indent=1)


def as_csv(copies: list[Copy]) -> str:
    """With a header."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(Copy.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(copy) for copy in copies)
    return sink.getvalue().rstrip("\n")


async def as_page(target: Target, copies: list[Copy]) -> str:
    """One HTML file with all pictures in it."""
    store = Store(target.connection)
    try:
        clusters: dict[tuple[str, str], list[Copy]] = {}
        for copy in copies:
            clusters.setdefault((copy.collection, copy.kept), []).append(copy)
        sections = []
        for (collection, kept), members in clusters.items():
            shown = [await _figure(store, m.copy, f"{m.kind.replace('_', ' ')}, {m.distance} bits; kept: {m.why_kept}") for m in members[:_SHOWN]]
            more = f"<p>and {len(members) - _SHOWN} more</p>" if len(members) > _SHOWN else ""
            first = await _figure(store, kept, f"kept of {html.escape(collection)}, {members[0].kept_pixels / 1e6:.2f} MP", "kept")
            sections.append(f"<section>{first}<div>{''.join(shown)}{more}</div></section>")
    finally:
        store.close()
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>Copies</title><style>{_STYLE}</style><h1>{len(copies)} copies</h1>{''.join(sections)}\n"


async def _figure(store: Store, image: str, words: str, name: str = "") -> str:
    try:
        picture = b64encode(render(await store.get_image(image), min(SIZES))).decode()
        shown = f'<img src="data:image/jpeg;base64,{picture}" alt="">'
    except CosmopError:
        shown = "<p>no picture any more</p>"
    return f'<figure class="{name}">{shown}<figcaption><code>{image[:12]}</code> {words}</figcaption></figure>'


_STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem;color-scheme:light dark}
section{display:flex;gap:1rem;border-top:1px solid #8886;padding:1rem 0}section>div{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:0;width:200px}img{width:100%;border-radius:6px}.kept img{outline:3px solid #2a7}figcaption{font-size:13px}
@media(max-width:560px){section{flex-direction:column}figure{width:150px}}"""
