"""The console's core on real servers: the read model follows, labels are kept, versions are frozen once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.datasets import load_dataset
from cosmop_common.errors import NotReadyError
from cosmop_common.facts import Facts
from cosmop_common.names import label_key
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.records import LabelRecord
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import provision
from cosmop_console import database, datasets, funnel
from cosmop_console.labels import Label, Labels, UnknownClassError, UnlabellableImageError
from cosmop_console.worker import Follower

COLLECTION = Collection.model_validate({"name": "c", "classes": ["yes", "no"], "positive": "yes"})


@dataclass
class Console:
    facts: Facts
    db: sqlite3.Connection
    follower: Follower
    labels: Labels
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.db.close()


async def start(bus: Bus, store: Store, folder: Path) -> Console:
    db = database.connect(folder)
    facts, follower, collections = Facts(bus), Follower(bus, db), Collections(bus)
    await collections.put(COLLECTION)
    return Console(facts, db, follower, Labels(facts, store, collections, db), asyncio.create_task(follower.run(asyncio.Event())))


@pytest.fixture
async def console(bus: Bus, store: Store, tmp_path: Path) -> AsyncIterator[Console]:
    console = await start(bus, store, tmp_path / "console")
    yield console
    await console.stop()


def image(i: int) -> str:
    return f"{i:064x}"


async def publish(facts: Facts, count: int, first: int = 0) -> None:
    """Images that went the whole way: unique, with people, hashes far apart."""
    for i in range(first, first + count):
        where = {"collection": "c", "image": image(i)}
        await facts.create(facts_pb2.Scraped(**where, width=64, height=64))
        await facts.put(facts_pb2.Sighted(**where, image_url=f"http://a/{i}"))
        await facts.put(facts_pb2.Hashed(**where, phash=(i * 0x9E3779B97F4A7C15) % 2**64, algorithm="a/1", width=64, height=64, cause=1))
        await facts.put(facts_pb2.Deduplicated(**where, kind=facts_pb2.DUPLICATE_KIND_UNIQUE, kept=image(i), cause=1))
        await facts.put(facts_pb2.Screened(**where, people=True, score=0.9, threshold=0.5, cause=1))


async def test_the_read_model_goes_on_where_it_stopped(bus: Bus, store: Store, tmp_path: Path) -> None:
    console = await start(bus, store, tmp_path / "console")
    await publish(console.facts, 5)
    await console.follower.catch_up()
    assert funnel.count(console.db, "c").people == 5
    await console.stop()

    await publish(Facts(bus), 2, first=5)
    console = await start(bus, store, tmp_path / "console")
    applied: list[object] = []
    original = console.follower.projection.apply
    console.follower.projection.apply = lambda fact, sequence: (applied.append(fact), original(fact, sequence))
    await console.follower.catch_up()
    counts = funnel.count(console.db, "c")
    assert (counts.scraped, counts.people, counts.conserved) == (7, 7, True)
    assert len(applied) == 10, "only what is new is read"
    await console.stop()


async def test_a_stream_made_anew_makes_the_read_model_anew(bus: Bus, store: Store, settings: ConnectionSettings, tmp_path: Path) -> None:
    console = await start(bus, store, tmp_path / "console")
    await publish(console.facts, 3)
    await console.follower.catch_up()
    await console.stop()
    for kind in ("SCRAPED", "SIGHTED", "HASHED", "DEDUPLICATED", "SCREENED"):
        await bus.js.delete_stream(f"FACTS_{kind}")
    await provision(bus.js, settings)
    await publish(Facts(bus), 1, first=9)
    console = await start(bus, store, tmp_path / "console")
    await console.follower.catch_up()
    assert funnel.count(console.db, "c").scraped == 1
    await console.stop()


async def test_following_goes_on_when_the_server_forgot_its_consumers(
    console: Console, bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cosmop_console.worker._CHECK_SECONDS", 1.0)
    await publish(console.facts, 1)
    await console.follower.catch_up()
    for consumer in await bus.js.consumers_info("FACTS_SCRAPED"):
        if not consumer.config.durable_name:
            await bus.js.delete_consumer("FACTS_SCRAPED", consumer.name)
    await publish(console.facts, 1, first=1)
    # The client's own recovery takes 20 seconds, if it comes: ours is the one that is seen.
    await console.follower.catch_up(seconds=120)
    assert "following anew" in caplog.text
    assert funnel.count(console.db, "c").people == 2


async def test_catching_up_ends_when_the_last_message_was_purged(console: Console, bus: Bus) -> None:
    await publish(console.facts, 2)
    await console.follower.catch_up()
    await console.stop()
    await console.facts.create(facts_pb2.Scraped(collection="c", image=image(7)))
    await bus.js.purge_stream("FACTS_SCRAPED", subject=f"cosmop.facts.scraped.c.{image(7)}")
    console.task = asyncio.create_task(asyncio.sleep(0))
    again = Follower(bus, database.in_memory())
    task = asyncio.create_task(again.run(asyncio.Event()))
    await asyncio.wait_for(again.catch_up(), 60)
    assert not task.done(), "it goes on following"
    task.cancel()
    console.db = database.in_memory()


async def test_a_dead_letter_is_a_failed_image(console: Console, bus: Bus) -> None:
    await console.facts.create(facts_pb2.Scraped(collection="c", image=image(1)))
    letter = facts_pb2.DeadLetter(collection="c", image=image(1), subject=f"cosmop.facts.scraped.c.{image(1)}", sequence=1, reason="broke")
    await bus.js.publish("cosmop.dead.dedup-hash", letter.SerializeToString())
    await console.follower.catch_up()
    assert funnel.count(console.db, "c").failed == 1


async def test_a_label_is_an_object_first_and_is_not_written_twice(console: Console, store: Store) -> None:
    await publish(console.facts, 1)
    await console.follower.catch_up()
    first = await console.labels.put(Label("c", image(0), "ann", "yes"))
    again = await console.labels.put(Label("c", image(0), "ann", "yes"))
    assert first.changed
    assert not again.changed
    assert again.ulid == first.ulid
    record = await LabelRecord.load(store, label_key("c", first.ulid))
    assert (record.image, record.labeller, record.label, record.origin) == (image(0), "ann", "yes", "console")
    await console.labels.put(Label("c", image(0), "ann", ""))
    await console.follower.catch_up()
    assert funnel.count(console.db, "c").labelled == {}, "a label taken back no longer counts"
    await console.labels.put(Label("c", image(0), "ann", "yes"))
    assert len([k async for k in store.list("labels/c/")]) == 3


async def test_labels_that_cannot_be_are_refused_with_the_cure(console: Console) -> None:
    await publish(console.facts, 1)
    await console.follower.catch_up()
    with pytest.raises(UnknownClassError, match="its classes are yes, no"):
        await console.labels.put(Label("c", image(0), "ann", "maybe"))
    with pytest.raises(UnlabellableImageError, match="never scraped"):
        await console.labels.put(Label("c", image(9), "ann", "yes"))


async def test_an_import_reports_what_it_could_not_label(console: Console) -> None:
    await publish(console.facts, 20)
    too_small = facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_TOO_SMALL)
    await console.facts.create(facts_pb2.Scraped(collection="c", image=image(30), refusal=too_small))
    await console.follower.catch_up()

    async def labels() -> AsyncIterator[Label]:
        for i in (*range(20), 30, 31):
            yield Label("c", image(i), "import", "yes" if i % 2 else "no", origin="import", name=f"{i}.jpg")

    outcome = await console.labels.put_all(labels())
    assert (outcome.imported, outcome.unchanged) == (20, 0)
    assert sorted(line.split(":")[0] for line in outcome.refused) == ["30.jpg", "31.jpg"]
    assert any("too_small" in line for line in outcome.refused)
    assert (await console.labels.put_all(labels())).unchanged == 20


async def test_freezing_the_same_content_is_the_same_version(console: Console, store: Store) -> None:
    await publish(console.facts, 30)
    await console.follower.catch_up()
    with pytest.raises(NotReadyError, match=r"label some in the console, or import a labels\.csv"):
        await datasets.freeze(store, console.db, COLLECTION, {})
    for i in range(20):
        await console.labels.put(Label("c", image(i), "ann", "yes" if i % 2 else "no"))
    await console.follower.catch_up()
    first = await datasets.freeze(store, console.db, COLLECTION, console.follower.positions)
    again = await datasets.freeze(store, console.db, COLLECTION, console.follower.positions)
    assert again == first
    record, rows = await load_dataset(store, f"c/{first.version}")
    assert len(rows) == 20
    assert record.left_out == {"unlabelled": 10}
    assert record.sequences["FACTS_LABELLED"] == 20
    assert all(record.splits[s].get(c) for s in ("train", "val", "test") for c in ("yes", "no"))
    await console.labels.put(Label("c", image(25), "ann", "yes"))
    await console.follower.catch_up()
    second = await datasets.freeze(store, console.db, COLLECTION, {})
    _, more = await load_dataset(store, f"c/{second.version}")
    assert {r.image: r.split for r in rows}.items() <= {r.image: r.split for r in more}.items()
    assert [v.version for v in await datasets.versions(store, "c")] == [second.version, first.version]
