"""One unique image in, one ``Screened`` out; nothing is computed twice.

An image that the right model has screened already is left alone. Where the model was replaced by one with the same weights and
another threshold, or the collection deals otherwise with the grey band, the stored score decides anew; only other weights make the
image be read again.
"""

from __future__ import annotations

from cosmop_common.collections_kv import Collections
from cosmop_common.errors import NotFoundError, RefusedImageError
from cosmop_common.facts import Facts
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_common.store import Store

from cosmop_human_detector.models import Model, Models
from cosmop_human_detector.registry import find_card


class Screener:
    """Screens images for people."""

    def __init__(self, facts: Facts, store: Store, collections: Collections, models: Models) -> None:
        self._facts = facts
        self._store = store
        self._collections = collections
        self._models = models

    async def screen(self, collection: str, image: str, cause: int) -> bool:
        """Makes the ``Screened`` fact of an image true. Returns whether it was changed.

        Args:
            cause: stream sequence of the ``Deduplicated`` that this follows from.
        """
        settings = await self._collections.get(collection)
        model = await self._models.resolve(collection, settings.human_detector.model)
        before = await self._facts.last(facts_pb2.Screened, collection, image)
        ask = settings.human_detector.grey_band == "ask"
        if before is not None and before.fact.model == model.reference and _stands(before.fact, model, ask=ask):
            return False
        fact = facts_pb2.Screened(collection=collection, image=image, threshold=model.card.threshold, model=model.reference, cause=cause)
        try:
            fact.score = await self._score(model, image, before.fact if before else None)
            fact.people = _people(model, fact.score, ask=ask)
            fact.uncertain = model.uncertain(fact.score)
        except RefusedImageError as error:
            fact.refusal.CopyFrom(error.refusal())
        except NotFoundError:
            # Erased meanwhile: the tombstone came before the bytes went.
            if await self._erased(collection, image):
                return False
            raise
        if await self._erased(collection, image):
            return False
        return await self._facts.put(fact)

    async def rescreen(self, collection: str, image: str, cause: int) -> bool:
        """Screens an image anew where another model has screened it; one that was never screened is left to its message."""
        if await self._facts.last(facts_pb2.Screened, collection, image) is None:
            return False
        return await self.screen(collection, image, cause)

    async def _score(self, model: Model, image: str, before: facts_pb2.Screened | None) -> float:
        if before is not None and not before.HasField("refusal") and await self._same_weights(before.model, model):
            return before.score
        return await model.score(await self._store.get_image(image))

    async def _same_weights(self, reference: str, model: Model) -> bool:
        if reference == model.reference:
            return True
        card = await find_card(self._store, reference)
        return card is not None and bool(card.files) and card.files == model.card.files

    async def _erased(self, collection: str, image: str) -> bool:
        return await self._facts.last(facts_pb2.Erased, collection, image) is not None


def _people(model: Model, score: float, *, ask: bool) -> bool:
    """Whether an image goes on: where a person is to be asked, also one that the model is unsure of."""
    return score >= model.card.threshold or (ask and model.uncertain(score))


def _stands(fact: facts_pb2.Screened, model: Model, *, ask: bool) -> bool:
    """Whether the same model would say the same again."""
    return fact.HasField("refusal") or fact.people == _people(model, fact.score, ask=ask)
