"""``cosmop scrape`` against a scraper that works: over a real channel, to the end, and what it prints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.endpoints import Endpoints
from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.pb.cosmop.v1 import console_pb2, console_pb2_grpc, runs_pb2, scraper_pb2, scraper_pb2_grpc
from cosmop_common.run_handle import RunHandle
from cosmop_common.runtime import Runtime
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_console.cli import scrape as scrapes
from cosmop_console.cli.target import Target
from cosmop_scraper.job import scrape_handler
from cosmop_scraper.service import ScraperServicer
from cosmop_scraper.settings import Settings
from scraper_bench import Bench, photo_folder


class ConsoleOfCollections(console_pb2_grpc.ConsoleServicer):
    """The part of the console that the command asks."""

    def __init__(self, bus: Bus) -> None:
        self.known = Collections(bus)
        self.names: list[str] = []

    async def PutCollection(self, request: console_pb2.PutCollectionRequest, context: object) -> console_pb2.Collection:  # noqa: N802 - gRPC's name
        collection = Collection.parse(request.yaml)
        await self.known.put(collection)
        self.names.append(collection.name)
        return console_pb2.Collection(name=collection.name, json=collection.to_json())

    async def GetCollection(self, request: console_pb2.GetCollectionRequest, context: grpc.aio.ServicerContext) -> console_pb2.Collection:  # noqa: N802 - gRPC's name
        if request.name not in self.names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no collection {request.name}")
        return console_pb2.Collection(name=request.name, json=(await self.known.get(request.name)).to_json())

    async def ListCollections(self, request: console_pb2.ListCollectionsRequest, context: object) -> console_pb2.ListCollectionsResponse:  # noqa: N802 - gRPC's name
        return console_pb2.ListCollectionsResponse(collections=[console_pb2.Collection(name=name) for name in self.names])


@pytest.fixture
def free() -> asyncio.Event:
    """The scraper begins no job before it is set."""
    event = asyncio.Event()
    event.set()
    return event


@pytest.fixture
async def target(bus: Bus, store: Store, settings: ConnectionSettings, free: asyncio.Event) -> AsyncIterator[Target]:
    """A scraper that serves and works, and as much of a console as it takes."""
    serving = Settings(grpc_port=0, http_port=0)
    console = grpc.aio.server()
    console_pb2_grpc.add_ConsoleServicer_to_server(ConsoleOfCollections(bus), console)
    console_port = console.add_insecure_port("127.0.0.1:0")
    await console.start()
    async with Runtime("scraper", serving) as runtime, Runtime("scraper", serving, serving=False) as body:
        runtime.serve(scraper_pb2_grpc.add_ScraperServicer_to_server, ScraperServicer(runtime, serving), scraper_pb2)
        scrape = scrape_handler(body, serving)

        async def scrape_when_free(run: RunHandle) -> None:
            await free.wait()
            await scrape(run)

        worker = asyncio.create_task(body.run_jobs({"scrape": scrape_when_free}))
        port = await runtime.grpc.start()
        yield Target(Endpoints(scraper_addr=f"127.0.0.1:{port}", console_addr=f"127.0.0.1:{console_port}"), settings)
        body.stopping.set()
        await asyncio.wait_for(worker, 120)
        await runtime.grpc.stop()
    await console.stop(0)


async def test_from_a_line_to_images(
    target: Target, bus: Bus, store: Store, free: asyncio.Event, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = photo_folder(tmp_path / "photos")
    with pytest.raises(InvalidInputError, match="there is none yet: name one with --collection NAME"):
        await scrapes.scrape(target, scrapes.Wish([str(folder)], source="folder"))
    (tmp_path / "c.yaml").write_text("name: c\nclasses: [yes-1, no-1]\npositive: yes-1\nscrape: {max_bytes: 200000}\n")
    # The job is held until the command has told how it stands: whoever is faster, a line is there before the end.
    free.clear()
    command = asyncio.create_task(scrapes.scrape(target, scrapes.Wish([str(folder)], str(tmp_path / "c.yaml"), "folder", run="mine")))
    shown = ""
    async with asyncio.timeout(120):
        while "; " not in shown:
            await asyncio.sleep(0.01)
            shown += capsys.readouterr().out
    free.set()
    await command
    said = (shown + capsys.readouterr().out).splitlines()
    assert said[0] == "run mine of collection c"
    assert said[1] == "folder: found 0, known 0, fetched 0, new 0, duplicate 0, refused 0, failed 0, images/s 0.0, MB 0.0; waits for a scraper to be free"
    assert said[-3].startswith("folder: found 36, known 0, fetched 36, new 30, duplicate 1, refused 5, failed 0")
    assert "too_small 1" in said[-3]
    assert said[-2].startswith("local files: found 36")
    assert said[-1].endswith("s in all")
    assert len(await Bench(bus, store).scraped()) == 35

    # The only collection is meant where none is named; a budget of the command ends the job.
    more = photo_folder(tmp_path / "more")
    await scrapes.scrape(target, scrapes.Wish([str(more)], source="folder", images=0, seconds=60, options=(), run="again"))
    assert "run again of collection c" in capsys.readouterr().out
    with pytest.raises(InvalidInputError, match="no option 'colour'"):
        await scrapes.scrape(target, scrapes.Wish([str(more)], source="folder", options=["colour=red"]))
    with pytest.raises(NotFoundError, match="no collection x"):
        await scrapes.scrape(target, scrapes.Wish([str(more)], "x"))


async def test_sources_and_cancel(target: Target, bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    await scrapes.list_sources(target)
    said = capsys.readouterr().out
    assert "openverse" in said
    assert "not here: no key: set COSMOP_X_BEARER_TOKEN" in said
    with pytest.raises(NotFoundError, match="there is no run 'none'"):
        await scrapes.cancel(target, "none")
    await Bench(bus, None).runs.create(runs_pb2.Run(id="waits", kind="scraper.scrape", state=runs_pb2.RUN_STATE_QUEUED))  # type: ignore[arg-type]
    await scrapes.cancel(target, "waits")
    assert capsys.readouterr().out == "run waits: cancelled\n"
