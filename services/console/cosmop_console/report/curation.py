"""What deduplication and the human filter did, as a report shows it: examples of copies, and the filter with its bound."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cosmop_common.errors import CosmopError, NotFoundError
from cosmop_common.facts import Facts
from cosmop_common.names import model_key
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.records import ModelCard
from cosmop_common.store import Store

_GROUPS = 6
_COPIES = 3


@dataclass(frozen=True)
class Copy:
    """An image that was put aside for another."""

    image: str
    #: Hamming distance of the perceptual hashes, 0 to 64.
    distance: int
    data: bytes


@dataclass(frozen=True)
class CopyGroup:
    """An image that was kept, and some of its copies, the least alike first."""

    kept: str
    data: bytes
    copies: list[Copy]
    #: Of all its copies.
    count: int


@dataclass
class Screening:
    """The human filter at work."""

    #: The model that screened most images.
    model: str = ""
    card: ModelCard | None = None
    people: int = 0
    none: int = 0
    #: In the grey band around the threshold: a person should look.
    uncertain: int = 0
    threshold: float | None = None


@dataclass(frozen=True)
class Decision:
    """What deduplication said of an image last."""

    kept: str
    distance: int


async def decisions(facts: Facts, collection: str) -> dict[str, Decision]:
    """The last word on each image, by its id."""
    return {said.fact.image: Decision(said.fact.kept or said.fact.image, said.fact.distance) async for said in facts.replay(facts_pb2.Deduplicated, collection)}


async def copy_groups(decided: Mapping[str, Decision], store: Store) -> list[CopyGroup]:
    """Some groups of copies, those first whose copies are least alike: there deduplication could be wrong."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for image, said in decided.items():
        if said.kept != image:
            groups[said.kept].append((said.distance, image))
    chosen = sorted(groups, key=lambda kept: (-max(groups[kept])[0], -len(groups[kept]), kept))[:_GROUPS]
    found = []
    for kept in chosen:
        ordered = sorted(groups[kept], reverse=True)
        copies = [Copy(image, distance, await image_bytes(store, image)) for distance, image in ordered[:_COPIES]]
        found.append(CopyGroup(kept, await image_bytes(store, kept), copies, len(ordered)))
    return found


async def screening(facts: Facts, store: Store, collection: str, decided: Mapping[str, Decision]) -> Screening | None:
    """What the human filter said of the images that are kept now; None where nothing was screened.

    An image that was kept for a while, and became the copy of a better one, was screened too: it counts no more.
    """
    told = Screening()
    models: Counter[str] = Counter()
    thresholds: dict[str, float] = {}
    async for said in facts.replay(facts_pb2.Screened, collection):
        fact = said.fact
        if fact.HasField("refusal") or (fact.image in decided and decided[fact.image].kept != fact.image):
            continue
        models[fact.model] += 1
        thresholds[fact.model] = fact.threshold
        told.people += fact.people
        told.none += not fact.people
        told.uncertain += fact.uncertain
    if not models:
        return None
    told.model = models.most_common(1)[0][0]
    told.threshold = thresholds[told.model]
    told.card = await find_card(store, told.model)
    return told


async def find_card(store: Store, model: str) -> ModelCard | None:
    """The card of ``name/version``, or None where there is none."""
    name, _, version = model.partition("/")
    try:
        return await ModelCard.load(store, model_key(name, version, "card.json"))
    except NotFoundError:
        return None


async def image_bytes(store: Store, image: str) -> bytes:
    """An image's bytes; empty where it was erased since: the numbers stay, the picture goes."""
    try:
        return await store.get_image(image)
    except CosmopError:
        return b""
