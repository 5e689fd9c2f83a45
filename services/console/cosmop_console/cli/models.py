"""``cosmop models``: registered versions of all classifiers and human filters; promote one, go back to the one before.

A version becomes active only when its service has loaded it, checked the sha256 of its files and passed its smoke test; until
then, and if it fails, the version before goes on answering.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from cosmop_common.bus import Bus
from cosmop_common.errors import NotFoundError, NotReadyError
from cosmop_common.models_kv import ActiveModels
from cosmop_common.pb.cosmop.v1 import classifier_pb2, human_detector_pb2

from cosmop_console.cli import target
from cosmop_console.cli.options import OUT, Endpoint, Home
from cosmop_console.cli.remote import call
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say
from cosmop_console.clients import Services

models = typer.Typer(no_args_is_help=True, help="Registered models: list, show, promote, roll back.")
Name = Annotated[str, typer.Argument(help="A model, as `cosmop models list` names it: immigration-binary.")]
_HEADLINES = ("precision", "recall", "accuracy", "f1", "auroc")


@dataclass(frozen=True)
class Version:
    """A registered model version, whichever service owns it."""

    name: str
    version: str
    active: bool
    card: dict[str, Any]
    service: str


@models.command("list")
def list_models(
    collection: Annotated[str, typer.Option(help="Classifiers of one collection only.")] = "",
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """All versions, the active ones marked, with their test figures."""
    asyncio.run(_list(target.find(home, endpoint), collection))


@models.command()
def show(
    name: Name,
    version: Annotated[str, typer.Argument(help="Default: the active one.")] = "",
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """A version's card: data, metrics with intervals, thresholds, sha256 of its files."""
    asyncio.run(_show(target.find(home, endpoint), name, version))


@models.command()
def promote(name: Name, version: Annotated[str, typer.Argument()], home: Home = OUT, endpoint: Endpoint = "") -> None:
    """Make a version the active one; the old one serves until the new one has passed its smoke test."""
    asyncio.run(_promote(target.find(home, endpoint), name, version))


@models.command()
def rollback(name: Name, home: Home = OUT, endpoint: Endpoint = "") -> None:
    """Go back to the version that was active before."""
    asyncio.run(_rollback(target.find(home, endpoint), name))


async def _list(where: Target, collection: str) -> None:
    async with where.services() as services:
        found = await _versions(services, collection)
    if not found:
        say("no model is registered yet: `cosmop train classifier` makes one")
    for model in found:
        say(f"{'*' if model.active else ' '} {model.name}/{model.version}  {model.card['created'][:19]}  {_figures(model.card)}")


async def _show(where: Target, name: str, version: str) -> None:
    async with where.services() as services:
        found = _of(await _versions(services), name, version)
    say(json.dumps(found.card | {"active": found.active}, indent=1))


async def _promote(where: Target, name: str, version: str) -> None:
    async with where.services() as services:
        await _activate(services, _of(await _versions(services), name, version))
    say(f"{name}/{version} is active")


async def _rollback(where: Target, name: str) -> None:
    async with where.services() as services, _active(where) as active:
        versions = await _versions(services)
        before = await active.before(name)
        if before is None:
            known = ", ".join(v.version for v in versions if v.name == name) or "none"
            raise NotReadyError(f"no other version of {name} was active before; registered are: {known}. `cosmop models promote {name} VERSION` takes one")
        now = await active.get(name)
        await _activate(services, _of(versions, name, before))
    say(f"{name} is back at {before} (was {now})")


async def _versions(services: Services, collection: str = "") -> list[Version]:
    answer = await call("classifier", services.classifier.ListModels(classifier_pb2.ListModelsRequest(collection=collection)))
    found = [Version(m.name, m.version, m.active, json.loads(m.card), "classifier") for m in answer.models]
    if not collection:
        detectors = await call("human-detector", services.human_detector.ListModels(human_detector_pb2.ListDetectorsRequest()))
        found += [Version(d.name, d.version, d.active, json.loads(d.card), "human-detector") for d in detectors.models]
    return found


def _of(versions: list[Version], name: str, version: str) -> Version:
    mine = [v for v in versions if v.name == name]
    for candidate in mine:
        if candidate.version == version or (not version and candidate.active):
            return candidate
    if mine and not version:
        raise NotReadyError(f"no version of {name} is active; registered are: {', '.join(v.version for v in mine)}")
    known = ", ".join(v.version for v in mine) if mine else "none of that model; `cosmop models list` names all"
    raise NotFoundError(f"there is no {name}/{version}; registered are: {known}")


async def _activate(services: Services, model: Version) -> None:
    if model.service == "classifier":
        request = classifier_pb2.ActivateModelRequest(name=model.name, version=model.version)
        await call("classifier", services.classifier.ActivateModel(request))
    else:
        await call("human-detector", services.human_detector.ActivateModel(human_detector_pb2.ActivateDetectorRequest(name=model.name, version=model.version)))


@asynccontextmanager
async def _active(where: Target) -> AsyncIterator[ActiveModels]:
    bus = await Bus.connect(where.connection, "models")
    try:
        yield ActiveModels(bus)
    finally:
        await bus.close()


async def figures(services: Services, model: str) -> str:
    """A classifier's version with its test figures, in one line."""
    name, _, version = model.partition("/")
    found = await call("classifier", services.classifier.GetModel(classifier_pb2.GetModelRequest(name=name, version=version)))
    return f"{model}  {_figures(json.loads(found.card))}"


def _figures(card: dict[str, Any]) -> str:
    test = (card.get("metrics") or {}).get("test") or {}
    told = [f"{name} {test[name]['value']:.3f}" for name in _HEADLINES if test.get(name, {}).get("value") is not None]
    return "  ".join([card.get("method") or card.get("network", ""), *told])
