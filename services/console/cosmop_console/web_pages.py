"""The pages: collections, gallery, copies, one image, labelling, runs, reports."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from cosmop_common.collection import Collection
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import ENDED
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from cosmop_console import datasets, funnel, gallery, training
from cosmop_console.web import Web

_RUNS = 200


def router(web: Web) -> APIRouter:
    """The routes of all pages."""
    routes = APIRouter()
    _collections(routes, web)
    _images(routes, web)
    _runs(routes, web)
    return routes


def _collections(routes: APIRouter, web: Web) -> None:
    @routes.get("/")
    async def overview(request: Request) -> Response:
        return web.page(request, "overview.html", section="collections", **await _overview(web))

    @routes.get("/live")
    async def overview_live(request: Request) -> Response:
        return web.page(request, "parts/overview.html", **await _overview(web))

    @routes.get("/c/{name}")
    async def collection(request: Request, name: str) -> Response:
        return web.page(request, "collection.html", section="collections", tab="overview", **await _collection(web, name))

    @routes.get("/c/{name}/live")
    async def collection_live(request: Request, name: str) -> Response:
        return web.page(request, "parts/collection.html", **await _collection(web, name))

    @routes.post("/c/{name}/datasets")
    async def freeze(name: str) -> Response:
        settings = await web.runtime.collections.get(name)
        await web.follower.catch_up()
        await datasets.freeze(web.runtime.store, web.db, settings, web.follower.positions)
        return RedirectResponse(f"/c/{name}#versions", status_code=303)

    @routes.get("/c/{name}/label")
    async def label(request: Request, name: str) -> Response:
        return web.page(request, "label.html", section="collections", tab="label", collection=await web.runtime.collections.get(name))


def _images(routes: APIRouter, web: Web) -> None:
    @routes.get("/c/{name}/gallery")
    async def images(request: Request, name: str) -> Response:
        settings, asked = await web.runtime.collections.get(name), gallery.Filter.parse(request.query_params)
        return web.page(
            request, "gallery.html", section="collections", tab="gallery", collection=settings, asked=asked, page=gallery.page(web.db, name, asked),
            stages=gallery.STAGES, orders=gallery.ORDERS, verdicts=gallery.VERDICTS, reasons=gallery.reasons(web.db, name),
        )  # fmt: skip

    @routes.get("/c/{name}/copies")
    async def copies(request: Request, name: str, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        settings = await web.runtime.collections.get(name)
        found, pages = gallery.clusters(web.db, name, page)
        return web.page(request, "copies.html", section="collections", tab="copies", collection=settings, clusters=found, page=min(page, pages), pages=pages)

    @routes.get("/c/{name}/images/{image}")
    async def image(request: Request, name: str, image: str) -> Response:
        settings = await web.runtime.collections.get(name)
        row = gallery.find(web.db, name, image)
        kept = row["kept"] if row["kind"] in {"same_hash", "near"} else image
        return web.page(
            request, "image.html", section="collections", tab="gallery", collection=settings, image=row, sightings=gallery.sightings(web.db, name, image),
            labels=gallery.labels(web.db, name, image), kept=kept, cluster=gallery.cluster_of(web.db, name, kept),
        )  # fmt: skip


def _runs(routes: APIRouter, web: Web) -> None:
    @routes.get("/runs")
    async def runs(request: Request) -> Response:
        return web.page(request, "runs.html", section="runs", runs=_tree(await web.runtime.runs.list(limit=_RUNS)))

    @routes.get("/runs/live")
    async def runs_live(request: Request) -> Response:
        return web.page(request, "parts/runs.html", runs=_tree(await web.runtime.runs.list(limit=_RUNS)))

    @routes.get("/runs/{run}")
    async def run(request: Request, run: str) -> Response:
        return web.page(request, "run.html", section="runs", **await _run(web, run))

    @routes.get("/runs/{run}/live")
    async def run_live(request: Request, run: str) -> Response:
        return web.page(request, "parts/run.html", **await _run(web, run))

    @routes.post("/runs/{run}/cancel")
    async def cancel(run: str) -> Response:
        await web.runtime.runs.cancel(run)
        return RedirectResponse(f"/runs/{run}", status_code=303)

    @routes.get("/reports")
    async def reports(request: Request) -> Response:
        keys = [key async for key in web.runtime.store.list("reports/")]
        names = sorted({key.split("/")[1] for key in keys if key.endswith("/report.html")}, reverse=True)
        states = await asyncio.gather(*(web.runtime.runs.find(name) for name in names))
        return web.page(request, "reports.html", section="reports", reports=list(zip(names, states, strict=True)))


async def _overview(web: Web) -> dict[str, Any]:
    cards = [(c, funnel.count(web.db, c.name), gallery.newest(web.db, c.name, 6)) for c in web.runtime.collections.all()]
    runs = [r for r in await web.runtime.runs.list(limit=_RUNS) if r.state not in ENDED]
    return {"cards": cards, "runs": _tree(runs), "caught_up": web.follower.caught_up}


async def _collection(web: Web, name: str) -> dict[str, Any]:
    collection: Collection = await web.runtime.collections.get(name)
    runs, versions = await asyncio.gather(web.runtime.runs.list(name, limit=_RUNS), datasets.versions(web.runtime.store, name))
    counts = funnel.count(web.db, name)
    return {
        "collection": collection, "counts": counts, "steps": _steps(counts), "runs": _tree(runs)[:8], "versions": versions,
        "caught_up": web.follower.caught_up,
    }  # fmt: skip


async def _run(web: Web, run: str) -> dict[str, Any]:
    state = await web.runtime.runs.get(run)
    children = [r for r in await web.runtime.runs.list(state.collection, limit=_RUNS) if r.parent == run]
    has_report = await web.runtime.store.exists(f"reports/{run}/report.html")
    return {
        "run": state,
        "children": children,
        "ended": state.state in ENDED,
        "has_report": has_report,
        "traces": await training.traces(web.runtime.store, state),
    }


def _steps(counts: funnel.Funnel) -> list[tuple[str, int, str]]:
    """The funnel's widths: what is left after each stage, and what the stage is."""
    distinct = counts.scraped - counts.duplicates.get("exact", 0)
    readable = distinct - sum(counts.rejected.values()) - counts.erased
    return [
        ("downloads", counts.scraped, "completed, refused ones included"),
        ("distinct", distinct, "without exact copies"),
        ("usable", readable, "images that no stage refused"),
        ("unique", counts.unique, "without near-duplicates"),
        ("with people", counts.people, "as the human filter sees it"),
        ("labelled", sum(counts.labelled.values()), "labellers agree on a class"),
    ]


def _tree(runs: list[runs_pb2.Run]) -> list[tuple[runs_pb2.Run, list[runs_pb2.Run]]]:
    """Runs with their children below them; a child whose parent is not listed stands alone."""
    ids = {r.id for r in runs}
    children: dict[str, list[runs_pb2.Run]] = {}
    for run in reversed(runs):
        if run.parent in ids:
            children.setdefault(run.parent, []).append(run)
    return [(r, children.get(r.id, [])) for r in runs if r.parent not in ids]
