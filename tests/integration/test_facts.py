"""The promises of ``cosmop_common.facts``, kept on a real JetStream."""

from __future__ import annotations

import asyncio

import pytest
from cosmop_common.bus import Bus
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2

IMAGE = "a" * 64


def screened(score: float, cause: int) -> facts_pb2.Screened:
    return facts_pb2.Screened(collection="c", image=IMAGE, score=score, cause=cause)


async def test_a_fact_is_created_once(bus: Bus) -> None:
    facts = Facts(bus)
    fact = facts_pb2.Scraped(collection="c", image=IMAGE, size=3)
    assert await facts.create(fact)
    assert not await facts.create(facts_pb2.Scraped(collection="c", image=IMAGE, size=4))
    last = await facts.last(facts_pb2.Scraped, "c", IMAGE)
    assert last is not None
    assert last.fact.size == 3


async def test_what_is_already_said_is_not_published_again(bus: Bus) -> None:
    facts = Facts(bus)
    assert await facts.put(screened(0.5, 1))
    assert not await facts.put(screened(0.5, 2))
    assert await facts.put(screened(0.6, 3))


async def test_a_late_word_does_not_turn_a_newer_one_back(bus: Bus) -> None:
    facts = Facts(bus)
    await facts.put(screened(0.9, 7))
    assert not await facts.put(screened(0.1, 3))
    last = await facts.last(facts_pb2.Screened, "c", IMAGE)
    assert last is not None
    assert last.fact.score == 0.9


async def test_a_label_that_goes_a_b_a_keeps_its_third_word(bus: Bus) -> None:
    facts = Facts(bus)
    for word in ("yes", "no", "yes"):
        fact = facts_pb2.Labelled(collection="c", image=IMAGE, labeller="ann", label=word)
        fact.at.GetCurrentTime()
        assert await facts.put(fact)
    last = await facts.last(facts_pb2.Labelled, "c", IMAGE, "ann")
    assert last is not None
    assert last.fact.label == "yes"
    assert last.sequence == 3


async def test_replay_ends_and_follow_goes_on(bus: Bus) -> None:
    facts = Facts(bus)
    assert [f async for f in facts.replay(facts_pb2.Scraped)] == []
    for i in range(300):
        await facts.create(facts_pb2.Scraped(collection="c" if i % 2 else "d", image=f"{i:064x}"))
    assert len([f async for f in facts.replay(facts_pb2.Scraped)]) == 300
    assert len([f async for f in facts.replay(facts_pb2.Scraped, "d")]) == 150
    assert [f async for f in facts.replay(facts_pb2.Scraped, "none")] == []

    seen: list[int] = []

    async def follow() -> None:
        async for stored in facts.follow(facts_pb2.Scraped, after=290):
            seen.append(stored.sequence)

    task = asyncio.create_task(follow())
    async with asyncio.timeout(60):
        while len(seen) < 10:  # noqa: ASYNC110 - following goes on beside
            await asyncio.sleep(0.01)
        await facts.create(facts_pb2.Scraped(collection="c", image="f" * 64))
        while len(seen) < 11:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    assert seen == list(range(291, 302))


async def test_a_create_whose_answer_was_lost_knows_its_own_fact_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that somebody else had created is still somebody else's."""
    publish, facts = bus.js.publish, Facts(bus)

    def losing(answers: int) -> None:
        left = answers

        async def lossy(*args, **kwargs):
            nonlocal left
            ack = await publish(*args, **kwargs)
            if left:
                left -= 1
                raise TimeoutError
            return ack

        monkeypatch.setattr(bus.js, "publish", lossy)

    losing(2)
    assert await facts.create(facts_pb2.Scraped(collection="c", image="a" * 64, size=1))
    losing(0)
    assert not await facts.create(facts_pb2.Scraped(collection="c", image="a" * 64, size=1))
    assert (await bus.js.stream_info("FACTS_SCRAPED")).state.messages == 1
