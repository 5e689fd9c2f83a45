"""The dedup service on a real NATS and a real object store: facts in, facts out, whatever is killed or repeated."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection, DedupSettings
from cosmop_common.collections_kv import Collections
from cosmop_common.consume import consume
from cosmop_common.facts import Facts
from cosmop_common.names import Fact
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.tasks import end_tasks
from cosmop_common.topology import provision
from cosmop_console import database
from cosmop_console.projection import Projection
from cosmop_dedup.embedder import EMBEDDER
from cosmop_dedup.erased import Tombstones
from cosmop_dedup.hashing import hash_image
from cosmop_dedup.keeper import Keeper
from cosmop_dedup.state import CollectionState, Known
from cosmop_dedup.worker import HashWorker, IndexWorker
from PIL import Image


def collection(distance: int, *, flips: bool = False) -> Collection:
    return Collection(name="c", classes=("yes", "no"), positive="yes", dedup=DedupSettings(distance=distance, flips=flips))


def picture(seed: int, quality: int = 90, size: tuple[int, int] = (160, 120)) -> bytes:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def hashed(number: int, phash: int, pixels: int = 100) -> facts_pb2.Hashed:
    return facts_pb2.Hashed(collection="c", image=f"{number:064x}", phash=phash, algorithm="phash-ac-mean/1", width=pixels, height=1, size=5)


def near_hashes(count: int, seed: int = 0) -> list[facts_pb2.Hashed]:
    """Some bases, and hashes a few bits from them, in no helpful order."""
    rng = random.Random(seed)
    bases = [rng.getrandbits(64) for _ in range(count // 5)]
    facts = [hashed(i, rng.choice(bases) ^ (1 << rng.randrange(64)) ^ (1 << rng.randrange(64)), rng.randrange(1, 4)) for i in range(count)]
    rng.shuffle(facts)
    return facts


def expected(facts: list[facts_pb2.Hashed], rule: DedupSettings) -> dict[str, tuple]:
    state = CollectionState(rule, [Known(f, 1) for f in facts])
    return {f.image: words(f) for f in state.facts("c")}


def words(fact: facts_pb2.Deduplicated) -> tuple:
    return fact.kind, fact.kept, fact.distance, fact.threshold


async def said(facts: Facts, kind: type[Fact] = facts_pb2.Deduplicated) -> dict[str, Fact]:
    return {s.fact.image: s.fact async for s in facts.replay(kind)}


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 240) -> None:
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 - facts are asked for, they do not tell
            await asyncio.sleep(0.02)


async def until_said(facts: Facts, want: dict[str, tuple], seconds: float = 240) -> None:
    async def as_wanted() -> bool:
        return {i: words(f) for i, f in (await said(facts)).items()} == want

    await eventually(as_wanted, seconds)


@asynccontextmanager
async def collections_of(bus: Bus, value: Collection | None) -> AsyncIterator[Collections]:
    collections = Collections(bus)
    if value is not None:
        await collections.put(value)
    await collections.start()
    yield collections
    await collections.stop()


@asynccontextmanager
async def index_role(bus: Bus, settings: ConnectionSettings, collections: Collections) -> AsyncIterator[Keeper]:
    """The role as ``__main__`` wires it; leaving it is a sudden death: nothing is drained."""
    tombstones = Tombstones(Facts(bus))
    await tombstones.load()
    changes = collections.changes()
    keeper = Keeper(Facts(bus), collections, tombstones)
    await keeper.rebuild()
    work = (
        keeper.catch_up(),
        keeper.follow_rules(changes),
        tombstones.follow(keeper.erased),
        consume(bus, "dedup-index", facts_pb2.Hashed, IndexWorker(keeper).hashed, settings=settings, stopping=asyncio.Event()),
    )
    tasks = [asyncio.create_task(w) for w in work]
    try:
        yield keeper
    finally:
        await end_tasks(tasks)


async def test_images_become_hashes_and_decisions(bus: Bus, store: Store, settings: ConnectionSettings):
    facts = Facts(bus)
    blank = io.BytesIO()
    Image.new("RGB", (100, 100), "white").save(blank, "JPEG")
    data = {
        "large": picture(1, size=(320, 240)),
        "small": picture(1),
        "other": picture(2),
        "blank": blank.getvalue(),
        "cut": picture(3)[:700],
    }
    ids = {name: hashlib.sha256(d).hexdigest() for name, d in data.items()}
    async with collections_of(bus, collection(4)) as collections, index_role(bus, settings, collections):
        tombstones = Tombstones(facts)
        stopping = asyncio.Event()
        worker = HashWorker(facts, store, collections, tombstones)
        task = asyncio.create_task(consume(bus, "dedup-hash", facts_pb2.Scraped, worker.scraped, settings=settings, stopping=stopping, concurrency=2))
        for content in data.values():
            await store.put_image(content, "image/jpeg")
            await facts.create(facts_pb2.Scraped(collection="c", image=hashlib.sha256(content).hexdigest(), size=len(content)))
        refused = facts_pb2.Scraped(collection="c", image="e" * 64, refusal=facts_pb2.Refusal(reason=facts_pb2.REFUSAL_REASON_TOO_SMALL))
        await facts.create(refused)
        unique, near = facts_pb2.DUPLICATE_KIND_UNIQUE, facts_pb2.DUPLICATE_KIND_NEAR

        async def complete() -> bool:
            return len(await said(facts, facts_pb2.Hashed)) == 5 and len(await said(facts)) == 3

        await eventually(complete)
        stopping.set()
        await task
    hashes = await said(facts, facts_pb2.Hashed)
    assert hashes[ids["blank"]].refusal.reason == facts_pb2.REFUSAL_REASON_FLAT
    assert hashes[ids["cut"]].refusal.reason == facts_pb2.REFUSAL_REASON_CORRUPT
    assert (hashes[ids["large"]].width, hashes[ids["large"]].height, hashes[ids["large"]].size) == (320, 240, len(data["large"]))
    assert {h.cause for h in hashes.values()} == {1, 2, 3, 4, 5}
    decisions = await said(facts)
    assert set(decisions) == {ids["large"], ids["small"], ids["other"]}
    assert decisions[ids["large"]].kind == decisions[ids["other"]].kind == unique
    assert decisions[ids["small"]].kept == ids["large"]
    assert decisions[ids["small"]].kind in {near, facts_pb2.DUPLICATE_KIND_SAME_HASH}
    assert all(d.threshold == 4 and d.cause for d in decisions.values())


async def test_a_better_copy_takes_over_with_its_labels(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    async with collections_of(bus, collection(2)) as collections, index_role(bus, settings, collections):
        small, large = hashed(1, 0b1, pixels=10), hashed(2, 0b11, pixels=20)
        await facts.put(small)
        await until_said(facts, expected([small], DedupSettings(distance=2)))
        await facts.put(facts_pb2.Labelled(collection="c", image=small.image, labeller="ann", label="yes", ulid="01"))
        await facts.put(large)
        await until_said(facts, expected([small, large], DedupSettings(distance=2)))
    assert (await said(facts))[small.image].kept == large.image
    # What the console makes of it: the label is the kept image's now.
    projection = Projection(db := database.in_memory())
    for kind in (facts_pb2.Hashed, facts_pb2.Labelled, facts_pb2.Deduplicated):
        async for stored in facts.replay(kind):
            projection.apply(stored.fact, stored.sequence)
    row = db.execute("SELECT verdict, label, labellers FROM images WHERE image = ?", (large.image,)).fetchone()
    assert tuple(row) == ("agreed", "yes", 1)


async def test_the_outcome_is_that_of_the_set_through_deaths_and_repeats(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    arrivals = near_hashes(90)
    rng = random.Random(1)
    async with collections_of(bus, collection(3)) as collections:
        for start in range(0, len(arrivals), 30):
            async with index_role(bus, settings, collections):
                for fact in arrivals[start : start + 30]:
                    await facts.put(fact)
                await asyncio.sleep(rng.random() * 0.3)
        async with index_role(bus, settings, collections):
            await until_said(facts, expected(arrivals, DedupSettings(distance=3)))
        before = {i: (f.SerializeToString(), f.at.ToMilliseconds()) for i, f in (await said(facts)).items()}
        async with index_role(bus, settings, collections) as keeper:
            for fact in arrivals[:10]:
                await keeper.hashed(fact, 10**6)
            await asyncio.sleep(0.5)
    after = {i: (f.SerializeToString(), f.at.ToMilliseconds()) for i, f in (await said(facts)).items()}
    assert after == before


async def test_what_a_killed_predecessor_left_unsaid_is_said_at_start(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    arrivals = near_hashes(40)
    for fact in arrivals:
        await facts.put(fact)
    # Its predecessor took all messages, acknowledged them, and died before it could publish.
    subscription = await bus.js.pull_subscribe_bind(durable="dedup-index", stream="FACTS_HASHED")
    for _ in arrivals:
        await (await subscription.fetch(1, timeout=60))[0].ack_sync()
    async with collections_of(bus, collection(3)) as collections, index_role(bus, settings, collections):
        await until_said(facts, expected(arrivals, DedupSettings(distance=3)))


async def test_a_changed_distance_decides_all_anew(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    arrivals = near_hashes(60)
    async with collections_of(bus, collection(0)) as collections, index_role(bus, settings, collections):
        for fact in arrivals:
            await facts.put(fact)
        await until_said(facts, expected(arrivals, DedupSettings(distance=0)))
        await collections.put(collection(5))
        await until_said(facts, expected(arrivals, DedupSettings(distance=5)))
        await collections.put(collection(1))
        await until_said(facts, expected(arrivals, DedupSettings(distance=1)))
        late = hashed(999, arrivals[0].phash, pixels=9)
        await facts.put(late)
        await until_said(facts, expected([*arrivals, late], DedupSettings(distance=1)))


async def test_an_erased_image_frees_its_duplicates_and_stays_out(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    best, copy, third = hashed(1, 7, pixels=30), hashed(2, 7, pixels=20), hashed(3, 7, pixels=10)
    async with collections_of(bus, collection(0)) as collections:
        async with index_role(bus, settings, collections):
            for fact in (best, copy, third):
                await facts.put(fact)
            await until_said(facts, expected([best, copy, third], DedupSettings()))
            await facts.put(facts_pb2.Erased(collection="c", image=best.image, reason="asked"))
            want = expected([copy, third], DedupSettings())
            first = words((await said(facts))[best.image])
            await until_said(facts, want | {best.image: first})
        async with index_role(bus, settings, collections) as keeper:
            await keeper.hashed(best, 10**6)
            assert best.image not in keeper.state("c").images()
            await until_said(facts, want | {best.image: first})


async def test_collections_and_algorithms_are_never_compared(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    a, b, other = hashed(1, 7), hashed(2, 7), hashed(3, 7)
    b.algorithm = "phash-ac-mean/0"
    other.collection = "d"
    async with collections_of(bus, None) as collections, index_role(bus, settings, collections):
        for fact in (a, b, other):
            await facts.put(fact)
        unique = facts_pb2.DUPLICATE_KIND_UNIQUE
        await until_said(facts, {f.image: (unique, f.image, 0, 0) for f in (a, b, other)})
        b.algorithm = a.algorithm
        await facts.put(b)
        await until_said(facts, expected([a, b], DedupSettings()) | {other.image: (unique, other.image, 0, 0)})


async def test_a_fact_with_no_id_is_buried_and_stops_no_later_start(bus: Bus, settings: ConnectionSettings):
    facts = Facts(bus)
    good, bad = hashed(1, 7), hashed(2, 7)
    bad.image = "no-sha256"

    async def buried() -> bool:
        return (await bus.js.stream_info("DEAD")).state.messages > 0

    async with collections_of(bus, collection(0)) as collections:
        async with index_role(bus, settings, collections):
            await facts.put(bad)
            await eventually(buried)
        async with index_role(bus, settings, collections) as keeper:
            await facts.put(good)
            await until_said(facts, expected([good], DedupSettings()))
            assert keeper.state("c").images() == [good.image]


async def test_a_publication_that_fails_is_made_up_for(bus: Bus, settings: ConnectionSettings, monkeypatch: pytest.MonkeyPatch):
    facts, failures = Facts(bus), 3
    put = Facts.put

    async def failing(self: Facts, fact: Fact) -> bool:
        nonlocal failures
        if isinstance(fact, facts_pb2.Deduplicated) and failures:
            failures -= 1
            raise OSError("the line is down")
        return await put(self, fact)

    monkeypatch.setattr(Facts, "put", failing)
    arrivals = [hashed(i, 1, pixels=i) for i in range(1, 4)]
    async with collections_of(bus, collection(0)) as collections, index_role(bus, settings, collections):
        for fact in arrivals:
            await facts.put(fact)
        await until_said(facts, expected(arrivals, DedupSettings()))
    assert failures == 0


async def test_an_erased_image_is_not_hashed(bus: Bus, store: Store, settings: ConnectionSettings):
    facts = Facts(bus)
    await facts.put(facts_pb2.Erased(collection="c", image="a" * 64))
    async with collections_of(bus, collection(0)) as collections:
        worker = HashWorker(facts, store, collections, Tombstones(facts))
        stopping = asyncio.Event()
        task = asyncio.create_task(consume(bus, "dedup-hash", facts_pb2.Scraped, worker.scraped, settings=settings, stopping=stopping))
        await facts.create(facts_pb2.Scraped(collection="c", image="a" * 64))
        await facts.create(facts_pb2.Scraped(collection="c", image="b" * 64))

        async def buried() -> bool:
            return (await bus.js.stream_info("DEAD")).state.messages > 0

        await eventually(buried)
        stopping.set()
        await task
    letter = facts_pb2.DeadLetter.FromString((await bus.js.get_msg("DEAD", seq=1)).data)
    assert letter.image == "b" * 64
    assert "does not exist" in letter.reason
    assert await said(facts, facts_pb2.Hashed) == {}


@asynccontextmanager
async def process(environment: dict[str, str], roles: str = "hash,index", *how: str) -> AsyncIterator[asyncio.subprocess.Process]:
    own = {"COSMOP_GRPC_PORT": "0", "COSMOP_HTTP_PORT": "0", "COSMOP_DEDUP_ROLES": roles, "COSMOP_ACK_WAIT": "3"}
    child = await asyncio.create_subprocess_exec(sys.executable, *(how or ("-m", "cosmop_dedup")), env=os.environ | environment | own)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_replicas_that_are_killed_end_where_one_undisturbed_does(bus: Bus, store: Store, settings: ConnectionSettings, environment: dict[str, str]):
    facts = Facts(bus)
    # What a killed process held comes back after this long.
    await provision(bus.js, settings.model_copy(update={"ack_wait": 3.0}))
    images = [await store.put_image(picture(seed, quality), "image/jpeg") for seed in range(30) for quality in (95, 40)]

    async def scraped(name: str, order: list[str]) -> None:
        for image in order:
            await facts.create(facts_pb2.Scraped(collection=name, image=image))

    async def decided(name: str) -> dict[str, tuple]:
        return {s.fact.image: words(s.fact) async for s in facts.replay(facts_pb2.Deduplicated, name)}

    async def complete(name: str) -> bool:
        return len(await decided(name)) == len(images)

    async with collections_of(bus, collection(6)) as collections:
        await collections.put(collection(6).model_copy(update={"name": "many"}))
        async with process(environment) as alone:
            await scraped("c", images)
            await eventually(lambda: complete("c"))
            alone.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(alone.wait(), 60) == 0
        async with process(environment, "hash") as first, process(environment, "hash"), process(environment, "index") as index:
            await scraped("many", random.Random(3).sample(images, len(images)))

            async def under_way() -> bool:
                return len(await decided("many")) >= 8

            await eventually(under_way)
            first.kill()
            index.kill()
            async with process(environment, "hash"), process(environment, "index"):
                await eventually(lambda: complete("many"))
                want = await decided("c")

                async def same() -> bool:
                    return await decided("many") == want

                await eventually(same)
    assert sum(kind == facts_pb2.DUPLICATE_KIND_UNIQUE for kind, *_ in want.values()) == 30


async def test_the_grey_zone_asks_a_network_and_loads_no_torch(bus: Bus, store: Store, settings: ConnectionSettings, environment: dict[str, str]):
    """A cropped copy is beyond the distance: kept apart without the grey zone, found with it, by a process that never loads torch."""
    facts = Facts(bus)
    whole, other = picture(1, size=(480, 360)), picture(9, size=(400, 300))
    opened = Image.open(io.BytesIO(whole))
    sink = io.BytesIO()
    opened.crop((38, 29, 442, 331)).save(sink, "JPEG", quality=90)
    apart = (hash_image(whole).phash ^ hash_image(sink.getvalue()).phash).bit_count()
    assert apart > 2
    grey = collection(2).model_copy(update={"dedup": DedupSettings(distance=2, grey_distance=32)})
    async with collections_of(bus, grey) as collections, index_role(bus, settings, collections):
        code = "import asyncio, sys; from cosmop_dedup.__main__ import serve; asyncio.run(serve()); sys.exit('torch' in sys.modules)"
        async with process(environment, "hash", "-c", code) as hasher:
            ids = [await store.put_image(data, "image/jpeg") for data in (whole, sink.getvalue(), other)]
            for image in ids:
                await facts.create(facts_pb2.Scraped(collection="c", image=image))
            unique, near = facts_pb2.DUPLICATE_KIND_UNIQUE, facts_pb2.DUPLICATE_KIND_NEAR
            want = {ids[0]: (unique, ids[0], 0, 2), ids[1]: (near, ids[0], apart, 2), ids[2]: (unique, ids[2], 0, 2)}
            await until_said(facts, want)
            hasher.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(hasher.wait(), 60) == 0
        assert {h.embedder for h in (await said(facts, facts_pb2.Hashed)).values()} == {EMBEDDER}
        # Without it, from what is stored, they are two images again.
        await collections.put(collection(2))
        await until_said(facts, want | {ids[1]: (unique, ids[1], 0, 2)})
