"""Calls of the services from a subcommand: known errors, a collection's settings, a run followed to its end."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc
from cosmop_common.collection import Collection
from cosmop_common.errors import CosmopError, InvalidInputError
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2

from cosmop_console.cli.watch import say, watch
from cosmop_console.clients import Services, known_error

T = TypeVar("T")


class RunFailedError(CosmopError):
    """A run that was waited for did not succeed."""


async def call(service: str, answer: Awaitable[T]) -> T:
    """A call's answer; its failure as an error that says what to do."""
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        raise known_error(error, service) from error


def name_and_value(option: str) -> tuple[str, str]:
    """``name=value``. Raises ``InvalidInputError``."""
    name, equals, value = option.partition("=")
    if not equals or not name:
        raise InvalidInputError(f"option {option!r}: expected name=value, for example batch=16")
    return name, value


async def settings_of(services: Services, name: str) -> Collection:
    """A collection's settings. Raises ``NotFoundError``."""
    answer = await call("console", services.console.GetCollection(console_pb2.GetCollectionRequest(name=name)))
    return Collection.parse(answer.json)


async def follow(services: Services, run: runs_pb2.Run) -> runs_pb2.Run:
    """Shows a run's progress until it ends. Raises ``RunFailedError`` where it did not succeed."""
    say(f"run {run.id}")
    ended = await watch(services, run.id)
    if ended.state != runs_pb2.RUN_STATE_SUCCEEDED:
        raise RunFailedError(ended.error or f"run {ended.id} was cancelled")
    return ended
