"""The gRPC servicer: translates, delegates."""

# ruff: noqa: N802, ARG002 - gRPC names the methods and passes the context
from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from cosmop_common.errors import InvalidInputError, NotFoundError, NotReadyError, RefusedImageError
from cosmop_common.pb.cosmop.v1 import dedup_pb2, dedup_pb2_grpc, facts_pb2
from cosmop_common.store import Store
from numpy.typing import NDArray

from cosmop_dedup.hashing import hash_by, hash_image
from cosmop_dedup.image_rows import digest_of
from cosmop_dedup.index import CollectionIndex
from cosmop_dedup.keeper import Keeper
from cosmop_dedup.phash import ALGORITHM
from cosmop_dedup.search import BITS

_DEFAULT_K = 10
_DEFAULT_CLUSTERS = 100


class DedupServicer(dedup_pb2_grpc.DedupServicer):
    """``cosmop.v1.Dedup``.

    Args:
        store: for images that are asked about by id.
        keeper: the index; None in a process without the index role.
    """

    def __init__(self, store: Store, keeper: Keeper | None) -> None:
        self._store = store
        self._keeper = keeper

    async def Hash(self, request: dedup_pb2.HashRequest, context: Any) -> dedup_pb2.HashResponse:
        """The perceptual hash of an image."""
        data = await self._bytes(request)
        phash, algorithm, flat = await asyncio.to_thread(hash_by, data, request.algorithm)
        return dedup_pb2.HashResponse(phash=phash, algorithm=algorithm, flat=flat)

    async def FindSimilar(self, request: dedup_pb2.FindSimilarRequest, context: Any) -> dedup_pb2.FindSimilarResponse:
        """The images of a collection within a distance of one; an image of the collection is not its own neighbour."""
        if request.distance > BITS:
            raise InvalidInputError(f"distance is {request.distance}: hashes have {BITS} bits, ask for 0 to {BITS}")
        state = self._index().state(request.collection)
        index = state.indexes().get(ALGORITHM)
        member = index.member(request.id) if index and request.WhichOneof("image") == "id" else None
        hashes = member.hashes if member else await self._hashes(request)
        k = request.k or _DEFAULT_K
        found = index.near(hashes if request.flips else hashes[:1], request.distance, k + 1) if index else []
        others = [(image, bits) for image, bits in found if image != request.id][:k]
        return dedup_pb2.FindSimilarResponse(neighbours=_neighbours(index, others) if index else [])

    async def GetCluster(self, request: dedup_pb2.GetClusterRequest, context: Any) -> dedup_pb2.Cluster:
        """The kept image that an image belongs to, and all its duplicates."""
        digest_of(request.image)
        index = self._index().state(request.collection).index_of(request.image)
        if index is None:
            raise NotFoundError(f"image {request.image!r} is not in the index of {request.collection!r}: it was refused, erased, or never hashed")
        kept = index.decision(request.image).kept
        return _cluster(index, kept, index.duplicates(kept))

    async def ListClusters(self, request: dedup_pb2.ListClustersRequest, context: Any) -> dedup_pb2.ListClustersResponse:
        """Clusters of a collection with at least one duplicate, largest first."""
        state = self._index().state(request.collection)
        clusters = [(index, kept, duplicates) for index in state.indexes().values() for kept, duplicates in index.clusters().items()]
        largest = sorted(clusters, key=lambda c: (-len(c[2]), c[1]))[: request.limit or _DEFAULT_CLUSTERS]
        return dedup_pb2.ListClustersResponse(clusters=[_cluster(*cluster) for cluster in largest])

    async def Stats(self, request: dedup_pb2.StatsRequest, context: Any) -> dedup_pb2.StatsResponse:
        """How many images of a collection are what."""
        state = self._index().state(request.collection)
        counts = state.counts()
        return dedup_pb2.StatsResponse(
            images=counts.images,
            unique=counts.unique,
            same_hash=counts.same_hash,
            near=counts.near,
            flat=counts.flat,
            threshold=state.rule.distance,
            index_bytes=counts.index_bytes,
        )

    def _index(self) -> Keeper:
        if self._keeper is None:
            raise NotReadyError("this process only hashes: ask the one that has the role 'index' in COSMOP_DEDUP_ROLES")
        return self._keeper

    async def _hashes(self, request: dedup_pb2.FindSimilarRequest) -> NDArray[np.uint64]:
        hashed = await asyncio.to_thread(hash_image, await self._bytes(request))
        if hashed.flat:
            raise RefusedImageError(
                facts_pb2.REFUSAL_REASON_FLAT, "blank or flat pictures all look alike to a perceptual hash: nothing can be compared with one"
            )
        return np.array(hashed.symmetric, np.uint64)

    async def _bytes(self, request: dedup_pb2.HashRequest | dedup_pb2.FindSimilarRequest) -> bytes:
        which = request.WhichOneof("image")
        if which is None:
            raise InvalidInputError("the request holds no image: set content (its bytes) or id (its sha256)")
        if which == "content":
            return request.content
        digest_of(request.id)
        return await self._store.get_image(request.id)


def _cluster(index: CollectionIndex, kept: str, duplicates: Sequence[tuple[str, int]]) -> dedup_pb2.Cluster:
    pixels, size = index.measure(kept)
    return dedup_pb2.Cluster(kept=kept, duplicates=_neighbours(index, duplicates), pixels=pixels, size=size)


def _neighbours(index: CollectionIndex, found: Sequence[tuple[str, int]]) -> list[dedup_pb2.Neighbour]:
    measured = [(image, bits, *index.measure(image)) for image, bits in found]
    return [dedup_pb2.Neighbour(image=image, distance=bits, pixels=pixels, size=size) for image, bits, pixels, size in measured]
