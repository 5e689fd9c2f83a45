"""Search is exact: the tables find what a scan finds, whatever the distance, the crowd and the growth."""

from __future__ import annotations

import numpy as np
import pytest
from cosmop_common.errors import InvalidInputError
from cosmop_dedup.image_rows import ImageRows, digest_of
from cosmop_dedup.multi_index import MultiIndex, chunk_radii, scan
from cosmop_dedup.search import HashList, HashSearch
from hypothesis import given, settings
from hypothesis import strategies as st


def crowd(count: int, seed: int = 0, spread: int = 12) -> np.ndarray:
    """Random hashes, most of them a few bits from some other."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count // 8, dtype=np.uint64)[rng.integers(0, count // 8, count)]
    for _ in range(spread):
        hashes ^= np.where(rng.random(count) < 0.5, np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64), np.uint64(0))
    return hashes


def as_set(pairs: tuple) -> set[tuple[int, int, int]]:
    found = list(zip(*(column.tolist() for column in pairs), strict=True))
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("distance", range(65))
def test_every_pair_within_the_distance_agrees_in_a_chunk_within_its_radius(distance):
    # The pigeonhole: were each chunk's difference above its radius, their sum would be above the distance.
    assert sum(radius + 1 for radius in chunk_radii(distance)) == distance + 1
    assert len(chunk_radii(distance)) <= 4


@pytest.mark.parametrize("distance", range(13))
def test_tables_find_what_a_scan_finds(distance):
    hashes = crowd(20_000, seed=distance)
    queries = np.concatenate([hashes[::400], crowd(50, seed=99)])
    found = MultiIndex(hashes).within(queries, distance)
    assert found is not None
    assert as_set(found) == as_set(scan(hashes, queries, distance))


def test_a_scan_finds_what_the_definition_says():
    hashes, queries = crowd(300), crowd(40, seed=1)
    bits = np.array([[(int(q) ^ int(h)).bit_count() for h in hashes] for q in queries])
    for distance in (0, 7, 30, 64):
        assert as_set(scan(hashes, queries, distance)) == {(q, r, bits[q, r]) for q, r in np.argwhere(bits <= distance).tolist()}


def test_where_all_are_alike_the_tables_leave_it_to_the_scan():
    hashes = np.full(5000, 7, np.uint64)
    assert MultiIndex(hashes).within(hashes[:3], 4) is None
    assert MultiIndex(crowd(5000)).within(hashes[:3], 32) is None
    crowded = HashList()
    crowded.extend(hashes)
    assert len(as_set(crowded.within(hashes[:3], 4))) == 15_000


@given(steps=st.lists(st.integers(0, 4000), min_size=1, max_size=4), variants=st.sampled_from([1, 8]), distance=st.integers(0, 14))
@settings(max_examples=15, deadline=None)
def test_a_list_that_grows_is_searched_whole(steps, variants, distance):
    hashes = crowd(max(8, sum(steps)) * variants).reshape(-1, variants)[: sum(steps)]
    search, done = HashSearch(variants), 0
    for step in steps:
        search.add(hashes[done : done + step])
        done += step
        queries = hashes[: min(done, 5)]
        hits = search.within(queries, distance)
        bits = np.bitwise_count(queries[:, None, :1] ^ hashes[None, :done, :]).min(axis=2)
        bits = np.minimum(bits, np.bitwise_count(queries[:, None, :] ^ hashes[None, :done, :1]).min(axis=2))
        assert as_set((hits.query, hits.row, hits.distance)) == {(q, r, bits[q, r]) for q, r in np.argwhere(bits <= distance).tolist()}


@given(counts=st.lists(st.integers(1, 900), min_size=1, max_size=6), picks=st.randoms())
@settings(max_examples=20, deadline=None)
def test_ids_are_found_through_sorting_removal_and_return(counts, picks):
    rows, known = ImageRows(), set()
    for number, count in enumerate(counts):
        # Half of them share their first 8 bytes.
        ids = [digest_of(f"{number if i % 2 else 0:016x}{i:08x}{number:040x}") for i in range(count)]
        rows.extend(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 32))
        gone = picks.choice(ids)
        rows.remove(rows.row(gone))
        assert rows.row(gone) is None
        known |= set(ids) - {gone}
    assert len(rows) == len(known)
    assert {rows.digest(row) for row in rows.rows().tolist()} == known
    assert all(rows.digest(rows.row(digest)) == digest for digest in known)
    rows.extend(np.frombuffer(gone, np.uint8)[None])
    assert rows.digest(rows.row(gone)) == gone


@pytest.mark.parametrize("image", ["", "x" * 64, "ab" * 31, "ab " * 21 + "a", "ab" * 33])
def test_what_is_no_id_is_said_so(image):
    with pytest.raises(InvalidInputError, match="64 hex digits"):
        digest_of(image)
