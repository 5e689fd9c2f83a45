"""Model versions in the object store: a card and its files, written once, never changed."""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
from pathlib import Path

from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.names import model_key
from cosmop_common.records import ModelCard
from cosmop_common.store import Store
from pydantic import ValidationError

from cosmop_human_detector.errors import ModelFileError

log = logging.getLogger(__name__)

#: The model for every collection, and the prefix of those that were trained for one.
GENERAL = "human"
KIND = "human_detector"
HEAD_FILE = "head.safetensors"
ONNX_FILE = "model.onnx"


def name_for(collection: str) -> str:
    """``human-<collection>``; the general model for no collection."""
    return f"{GENERAL}-{collection}" if collection else GENERAL


def split_model(reference: str) -> tuple[str, str]:
    """``"<name>/<version>"`` -> its parts. Raises ``InvalidInputError``."""
    name, slash, version = reference.partition("/")
    if not (name and slash and version) or "/" in version:
        raise InvalidInputError(f"{reference!r} names no model: expected <name>/<version>, as ListModels names them")
    return name, version


async def register(store: Store, card: ModelCard, files: dict[str, bytes]) -> bool:
    """Stores a model version, its card last. Returns False when it was there."""
    for name, data in files.items():
        await store.put_new(model_key(card.name, card.version, name), data)
    return await card.save_new(store, model_key(card.name, card.version, "card.json"))


async def find_card(store: Store, reference: str) -> ModelCard | None:
    """The card of a version, or None."""
    try:
        return await ModelCard.load(store, model_key(*split_model(reference), "card.json"))
    except NotFoundError:
        return None
    except ValidationError as error:
        raise ModelFileError(f"the card of {reference} is damaged ({error.error_count()} faults): activate another version, or train one") from error


async def load_card(store: Store, reference: str) -> ModelCard:
    """The card of a version of a human filter. Raises ``NotFoundError``, ``InvalidInputError`` where it is another kind of model."""
    card = await find_card(store, reference)
    if card is None:
        raise NotFoundError(f"there is no model {reference}: train one, or choose one of those that ListModels names")
    if card.kind != KIND:
        raise InvalidInputError(f"{reference} is a {card.kind} model: a human filter is needed here")
    return card


async def load_file(store: Store, card: ModelCard, name: str) -> bytes:
    """A file of a version, verified. Raises ``NotFoundError``, ``ModelFileError``."""
    data = await store.get(model_key(card.name, card.version, name))
    if hashlib.sha256(data).hexdigest() != card.files.get(name):
        raise ModelFileError(f"{model_key(card.name, card.version, name)} is not the file of its card: activate another version, or train one")
    return data


async def list_cards(store: Store) -> list[ModelCard]:
    """The cards of all human filters, by name, oldest first."""
    keys = [key async for key in store.list(f"models/{GENERAL}") if key.endswith("/card.json")]
    cards = []
    for key in keys:
        try:
            cards.append(await ModelCard.load(store, key))
        except (NotFoundError, ValidationError) as error:
            # One damaged card must not hide the others.
            log.warning("%s is no card of a model and is left out: %s", key, error)
    return sorted((card for card in cards if card.kind == KIND), key=lambda card: (card.name, card.created))


def shipped() -> tuple[ModelCard, dict[str, bytes]]:
    """The head that comes with this package: its card and its files."""
    folder = importlib.resources.files("cosmop_human_detector") / "shipped"
    card = ModelCard.model_validate_json((folder / "card.json").read_bytes())
    return card, {name: (folder / name).read_bytes() for name in card.files}


def onnx_version(path: Path, expected_sha256: str, threshold: float) -> tuple[ModelCard, dict[str, bytes]]:
    """A detector's ONNX file as a model version. Raises ``InvalidInputError``, ``ModelFileError``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"COSMOP_HUMAN_DETECTOR names {path}, which cannot be read: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if expected_sha256 and digest != expected_sha256.lower():
        raise ModelFileError(f"{path} has sha256 {digest}, not COSMOP_HUMAN_DETECTOR_SHA256={expected_sha256}: fetch the file again, or correct the setting")
    card = ModelCard(
        name=GENERAL,
        version=f"nanodet-{digest[:12]}",
        kind=KIND,
        network="nanodet",
        method="highest score of the class person",
        dataset="COCO 2017, as published",
        classes=["people", "none"],
        positive="people",
        threshold=threshold,
        threshold_rule="chosen on photos of other kinds, each source of people left out once (docs/decisions.md)",
        files={ONNX_FILE: digest},
        details={"backend": "nanodet", "band": [threshold, threshold], "fitted_on": []},
    )
    return card, {ONNX_FILE: data}
