"""Model versions in the object store: immutable, described by their card, verified when read.

``models/<name>/<version>/`` holds ``network-<sha>.onnx`` (pooled features and the last feature map), ``head-<sha>.safetensors``
(what stands on them), ``predictions.json``, ``evaluation.json``, ``training.json`` and ``card.json``. Weights carry their digest in their names, so
that two attempts at one job, alive at once, never overwrite each other's; the card says which are the version's. It is written
last: a version without one was never finished.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from cosmop_common.errors import ChecksumError, InvalidInputError, NotFoundError
from cosmop_common.model_evaluation import EVALUATION, ModelEvaluation
from cosmop_common.names import model_key, sha256_hex
from cosmop_common.records import ModelCard, PredictionsRecord, Record
from cosmop_common.store import Store

NETWORK, HEAD = ("network", ".onnx"), ("head", ".safetensors")
PREDICTIONS, TRAINING = "predictions.json", "training.json"
BINARY, ONE_CLASS = "binary", "one_class"
#: Model names, after the collection's.
SUFFIXES = {BINARY: "-binary", ONE_CLASS: "-one-class"}
PAPER_SUFFIX = "-one-class-paper"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")


class ModelNotFoundError(NotFoundError):
    """There is no such model, or no such version of it."""


class ModelNameError(InvalidInputError):
    """A model or version named with signs that no name has."""


class TrainingImages(Record):
    """``training.json``: the images that the head was fitted on, in the order of its bank where it has one."""

    images: list[str]


@dataclass(frozen=True)
class ModelFiles:
    """A model version as it is written or was read."""

    card: ModelCard
    network: bytes
    head: bytes
    #: When written; a reader who wants it loads it by ``cosmop_common.model_evaluation.evaluation_file``.
    evaluation: ModelEvaluation | None = None


def model_name(collection: str, kind: str) -> str:
    """``immigration`` and ``one_class`` -> ``immigration-one-class``."""
    return collection + SUFFIXES[kind]


def check_name(name: str) -> None:
    """A model's or version's name becomes part of keys: letters, digits, dashes, underscores. Raises ``ModelNameError``."""
    if not _NAME.match(name):
        raise ModelNameError(f"{name[:80]!r} is no name of a model or version: expected letters, digits, dashes and underscores, at most 128")


def version_of(inputs: dict[str, Any]) -> str:
    """The version's name: a digest of everything that the model was made from, so that the same job makes it once."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), default=str)
    return "v" + hashlib.sha256(canonical.encode()).hexdigest()[:12]


async def save(store: Store, files: ModelFiles, predictions: PredictionsRecord, training: TrainingImages) -> ModelCard:
    """Writes a version; one that exists stays as it is. Returns the card that is in the store."""
    card = files.card
    parts = {
        _file_name(NETWORK, files.network): files.network,
        _file_name(HEAD, files.head): files.head,
        PREDICTIONS: predictions.model_dump_json(indent=1).encode(),
        TRAINING: training.model_dump_json().encode(),
    }
    if files.evaluation is not None:
        parts[EVALUATION] = files.evaluation.model_dump_json(indent=1).encode()
    for name, data in parts.items():
        await store.put_new(model_key(card.name, card.version, name), data)
    card = card.model_copy(update={"files": {name: sha256_hex(data) for name, data in parts.items()}})
    if not await card.save_new(store, model_key(card.name, card.version, "card.json")):
        return await load_card(store, card.name, card.version)
    return card


async def find_card(store: Store, name: str, version: str) -> ModelCard | None:
    """The card, or None where the version was never finished."""
    try:
        return await load_card(store, name, version)
    except ModelNotFoundError:
        return None


async def load_card(store: Store, name: str, version: str) -> ModelCard:
    """A version's card. Raises ``ModelNotFoundError``, ``ModelNameError``."""
    check_name(name)
    check_name(version)
    try:
        return await ModelCard.load(store, model_key(name, version, "card.json"))
    except NotFoundError as error:
        raise ModelNotFoundError(f"there is no version {version!r} of model {name!r}: ListModels names those that exist") from error


async def load(store: Store, name: str, version: str) -> ModelFiles:
    """A version with its files, each verified against the card.

    Raises:
        ModelNotFoundError: no such version.
        ChecksumError: a file is missing or is not the one that was registered.
    """
    card = await load_card(store, name, version)
    return ModelFiles(card, await _verified(store, card, NETWORK), await _verified(store, card, HEAD))


async def list_cards(store: Store, collection: str = "") -> list[ModelCard]:
    """Cards of all classifiers, of one collection or of all, by name and time."""
    prefix = f"models/{collection}-" if collection else "models/"
    keys = [key async for key in store.list(prefix) if key.endswith("/card.json")]
    cards = [await ModelCard.load(store, key) for key in keys]
    mine = [c for c in cards if c.kind in SUFFIXES and collection in {"", c.collection}]
    return sorted(mine, key=lambda c: (c.name, c.created))


def _file_name(part: tuple[str, str], data: bytes) -> str:
    return f"{part[0]}-{sha256_hex(data)[:12]}{part[1]}"


async def _verified(store: Store, card: ModelCard, part: tuple[str, str]) -> bytes:
    name = next((n for n in card.files if n.startswith(part[0] + "-") and n.endswith(part[1])), "")
    key = model_key(card.name, card.version, name)
    try:
        data = await store.get(key)
    except NotFoundError as error:
        raise ChecksumError(
            f"{part[0]} of {card.name}/{card.version} is gone although its card names it ({key}): restore it, or activate another version"
        ) from error
    if sha256_hex(data) != card.files[name]:
        raise ChecksumError(f"{key} is not the file that was registered: restore it, or activate another version")
    return data
