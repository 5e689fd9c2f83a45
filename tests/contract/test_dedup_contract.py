"""The gRPC contract of dedup, over a real channel: all five methods, by bytes and by id, and errors as statuses."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import imagehash
import numpy as np
import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.errors import CosmopError
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import dedup_pb2, dedup_pb2_grpc
from cosmop_common.runtime import Runtime
from cosmop_common.store import Store
from cosmop_console.cli import dedup as dedup_report
from cosmop_console.cli.target import Target
from cosmop_dedup.erased import Tombstones
from cosmop_dedup.keeper import Keeper
from cosmop_dedup.service import DedupServicer
from cosmop_dedup.settings import Settings
from cosmop_dedup.worker import hashed_fact
from PIL import Image

Call = Callable[[Any], Awaitable[object]]


def scene(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


ORIGINAL, COPY, OTHER = jpeg(scene(1)), jpeg(scene(1).resize((160, 120))), jpeg(scene(2))
BLANK = jpeg(Image.new("RGB", (100, 100), "white"))
TURNED = jpeg(scene(2).transpose(Image.Transpose.ROTATE_90))
IDS = {name: hashlib.sha256(data).hexdigest() for name, data in (("original", ORIGINAL), ("copy", COPY), ("other", OTHER), ("blank", BLANK))}


@pytest.fixture
async def serving(bus: Bus, store: Store, environment: dict[str, str]) -> AsyncIterator[Target]:
    """The service on a real channel, its collection full."""
    collection = {"name": "c", "classes": ["yes", "no"], "positive": "yes", "dedup": {"distance": 4}}
    await Collections(bus).put(Collection.model_validate(collection))
    for data in (ORIGINAL, COPY, OTHER, BLANK):
        fact = hashed_fact(data)
        fact.collection, fact.image = "c", await store.put_image(data, "image/jpeg")
        await Facts(bus).put(fact)
    async with Runtime("dedup", Settings(grpc_port=0, http_port=0)) as runtime:
        keeper = Keeper(runtime.facts, runtime.collections, Tombstones(runtime.facts))
        await keeper.rebuild()
        runtime.serve(dedup_pb2_grpc.add_DedupServicer_to_server, DedupServicer(runtime.store, keeper), dedup_pb2)
        yield Target.of(environment | {"COSMOP_DEDUP_ADDR": f"127.0.0.1:{await runtime.grpc.start()}"})
        await runtime.grpc.stop()


@pytest.fixture
async def dedup(serving: Target) -> AsyncIterator[dedup_pb2_grpc.DedupAsyncStub]:
    async with serving.services() as services:
        yield services.dedup


async def test_hash_by_bytes_and_by_id(dedup: dedup_pb2_grpc.DedupAsyncStub) -> None:
    by_bytes = await dedup.Hash(dedup_pb2.HashRequest(content=ORIGINAL))
    assert by_bytes == await dedup.Hash(dedup_pb2.HashRequest(id=IDS["original"], algorithm="cosmop"))
    assert (by_bytes.algorithm, by_bytes.flat) == ("phash-ac-mean/1", False)
    theirs = await dedup.Hash(dedup_pb2.HashRequest(content=ORIGINAL, algorithm="imagehash"))
    assert f"{theirs.phash:016x}" == str(imagehash.phash(Image.open(io.BytesIO(ORIGINAL))))
    assert theirs.algorithm == "imagehash"
    assert (await dedup.Hash(dedup_pb2.HashRequest(content=BLANK))).flat


async def test_find_similar_gives_the_nearest_first(dedup: dedup_pb2_grpc.DedupAsyncStub) -> None:
    request = dedup_pb2.FindSimilarRequest(collection="c", content=COPY, distance=64)
    found = (await dedup.FindSimilar(request)).neighbours
    assert {n.image for n in found[:2]} == {IDS["original"], IDS["copy"]}
    assert found[2].image == IDS["other"]
    assert [n.distance for n in found] == sorted(n.distance for n in found)
    assert found[0].distance <= 4 < found[2].distance
    request.k = 1
    assert len((await dedup.FindSimilar(request)).neighbours) == 1


async def test_an_image_is_not_its_own_neighbour(dedup: dedup_pb2_grpc.DedupAsyncStub) -> None:
    found = await dedup.FindSimilar(dedup_pb2.FindSimilarRequest(collection="c", id=IDS["copy"], distance=4))
    assert [n.image for n in found.neighbours] == [IDS["original"]]


async def test_turned_pictures_are_found_on_request(dedup: dedup_pb2_grpc.DedupAsyncStub) -> None:
    request = dedup_pb2.FindSimilarRequest(collection="c", content=TURNED, distance=4)
    assert not (await dedup.FindSimilar(request)).neighbours
    request.flips = True
    assert [n.image for n in (await dedup.FindSimilar(request)).neighbours] == [IDS["other"]]


async def test_clusters_and_stats(dedup: dedup_pb2_grpc.DedupAsyncStub) -> None:
    for name in ("original", "copy"):
        cluster = await dedup.GetCluster(dedup_pb2.GetClusterRequest(collection="c", image=IDS[name]))
        assert cluster.kept == IDS["original"]
        assert [d.image for d in cluster.duplicates] == [IDS["copy"]]
    alone = await dedup.GetCluster(dedup_pb2.GetClusterRequest(collection="c", image=IDS["other"]))
    assert (alone.kept, len(alone.duplicates)) == (IDS["other"], 0)
    assert list((await dedup.ListClusters(dedup_pb2.ListClustersRequest(collection="c"))).clusters) == [cluster]
    stats = await dedup.Stats(dedup_pb2.StatsRequest(collection="c"))
    assert (stats.images, stats.unique, stats.same_hash + stats.near, stats.flat, stats.threshold) == (3, 2, 1, 1, 4)
    assert 3 * 100 < stats.index_bytes < 3 * 1000


BAD: list[tuple[Call, grpc.StatusCode, str]] = [
    (lambda s: s.Hash(dedup_pb2.HashRequest()), grpc.StatusCode.INVALID_ARGUMENT, "content"),
    (lambda s: s.Hash(dedup_pb2.HashRequest(content=b"<html>")), grpc.StatusCode.INVALID_ARGUMENT, "HTML"),
    (lambda s: s.Hash(dedup_pb2.HashRequest(content=ORIGINAL[:900])), grpc.StatusCode.INVALID_ARGUMENT, "corrupt"),
    (lambda s: s.Hash(dedup_pb2.HashRequest(id="f" * 64)), grpc.StatusCode.NOT_FOUND, "f" * 64),
    (lambda s: s.Hash(dedup_pb2.HashRequest(content=ORIGINAL, algorithm="md5")), grpc.StatusCode.INVALID_ARGUMENT, "md5"),
    (lambda s: s.FindSimilar(dedup_pb2.FindSimilarRequest(collection="c", content=BLANK)), grpc.StatusCode.INVALID_ARGUMENT, "flat"),
    (lambda s: s.FindSimilar(dedup_pb2.FindSimilarRequest(collection="c", content=COPY, distance=65)), grpc.StatusCode.INVALID_ARGUMENT, "65"),
    (lambda s: s.FindSimilar(dedup_pb2.FindSimilarRequest(collection="nope", content=COPY)), grpc.StatusCode.NOT_FOUND, "nope"),
    (lambda s: s.Hash(dedup_pb2.HashRequest(content=b"")), grpc.StatusCode.INVALID_ARGUMENT, "empty"),
    (lambda s: s.Hash(dedup_pb2.HashRequest(id="../etc/passwd")), grpc.StatusCode.INVALID_ARGUMENT, "sha256"),
    (lambda s: s.FindSimilar(dedup_pb2.FindSimilarRequest(collection="c")), grpc.StatusCode.INVALID_ARGUMENT, "content"),
    (lambda s: s.FindSimilar(dedup_pb2.FindSimilarRequest(collection="c", id="e" * 64)), grpc.StatusCode.NOT_FOUND, "e" * 64),
    (lambda s: s.GetCluster(dedup_pb2.GetClusterRequest(collection="c", image="no id")), grpc.StatusCode.INVALID_ARGUMENT, "no id"),
    (lambda s: s.GetCluster(dedup_pb2.GetClusterRequest(collection="nope", image="e" * 64)), grpc.StatusCode.NOT_FOUND, "nope"),
    (lambda s: s.GetCluster(dedup_pb2.GetClusterRequest(collection="c", image=IDS["blank"])), grpc.StatusCode.NOT_FOUND, "refused"),
    (lambda s: s.ListClusters(dedup_pb2.ListClustersRequest(collection="nope")), grpc.StatusCode.NOT_FOUND, "nope"),
    (lambda s: s.Stats(dedup_pb2.StatsRequest(collection="nope")), grpc.StatusCode.NOT_FOUND, "nope"),
]


async def test_errors_are_statuses_that_name_the_input(dedup: dedup_pb2_grpc.DedupAsyncStub) -> None:
    for call, code, words in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(dedup)
        assert error.value.code() == code
        assert words in (error.value.details() or "")


async def test_a_process_that_only_hashes_says_who_has_the_index(store: Store) -> None:
    servicer = DedupServicer(store, None)
    with pytest.raises(CosmopError, match="COSMOP_DEDUP_ROLES") as error:
        await servicer.Stats(dedup_pb2.StatsRequest(collection="c"), None)
    assert error.value.grpc_code == grpc.StatusCode.FAILED_PRECONDITION
    assert (await servicer.Hash(dedup_pb2.HashRequest(content=ORIGINAL), None)).algorithm == "phash-ac-mean/1"


@pytest.mark.parametrize("roles", ["", "hash,search", "all"])
def test_unknown_roles_are_refused(roles: str) -> None:
    with pytest.raises(ValueError, match="hash, index"):
        Settings(dedup_roles=roles)
    assert Settings(dedup_roles=" index , hash").roles == {"hash", "index"}


async def test_the_report_lists_clusters_and_says_why_one_is_kept(serving: Target, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    await dedup_report.report(serving, "c", "json", None, 10)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["kept"], row["copy"], row["why_kept"]) == (IDS["original"], IDS["copy"], "4 times its pixels")
    assert (row["kept_pixels"], row["copy_bytes"]) == (320 * 240, len(COPY))
    await dedup_report.report(serving, "c", "csv", None, 10)
    (read,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert read == {name: str(value) for name, value in row.items()}
    await dedup_report.report(serving, "c", "table", None, 10)
    shown = capsys.readouterr().out
    assert IDS["copy"] in shown
    assert "4 times its pixels" in shown
    await dedup_report.report(serving, "c", "table", tmp_path / "copies.html", 10)
    page = (tmp_path / "copies.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "1 copies of 1 images" in capsys.readouterr().out
    with pytest.raises(CosmopError, match="nope"):
        await dedup_report.report(serving, "nope", "table", None, 10)


def test_why_goes_by_pixels_then_bytes_then_id() -> None:
    kept = dedup_pb2.Cluster(pixels=100, size=10)
    ways = {dedup_report.why(kept, dedup_pb2.Neighbour(pixels=p, size=s)) for p, s in ((50, 99), (100, 7), (100, 10))}
    assert ways == {"2 times its pixels", "as large, 3 bytes more", "as large and as long, smaller sha256"}
    assert [dedup_report.kind(d, 4) for d in (0, 4, 5)] == ["same_hash", "near", "grey"]
    assert "no copies" in dedup_report.as_table([])
