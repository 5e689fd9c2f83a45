"""What every step of the pipeline works with, and how it waits for a run of another service."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import grpc
from cosmop_common.collection import Collection
from cosmop_common.errors import CancelledError, CosmopError
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2
from cosmop_common.run_handle import RunHandle, StageHandle
from cosmop_common.runs import ENDED
from cosmop_common.store import Store

from cosmop_console.clients import Services, known_error

T = TypeVar("T")
_POLL_SECONDS = 0.4
_AWAY_SECONDS = 120.0


class ChildRunError(CosmopError):
    """A run that the pipeline had asked another service for has failed."""

    permanent = True


@dataclass(frozen=True)
class Context:
    """One pipeline run: its collection, its job, and all that it works with."""

    handle: RunHandle
    collection: Collection
    job: runs_pb2.PipelineJob
    services: Services
    store: Store

    def child(self, name: str) -> str:
        """The id of a run of another service that this run asks for: the same at every attempt."""
        return f"{self.handle.id}-{name}"

    def kept(self, stage: str, key: str) -> str:
        """What an earlier step left; empty when it left nothing."""
        found = self.handle.find_stage(stage)
        return found.result[key] if found and key in found.result else ""

    async def call(self, service: str, call: Callable[[], Awaitable[T]]) -> T:
        """Makes a gRPC call, again and again while its service is away for a moment; a status becomes one of our errors.

        Args:
            service: its name, for messages.
            call: makes the call; it must be one that can be repeated, as all of the pipeline's are.
        """
        deadline = time.monotonic() + _AWAY_SECONDS
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise known_error(error, service) from error
            self.handle.check()
            await asyncio.sleep(1)

    async def funnel(self) -> console_pb2.Funnel:
        """What has become of every download until now."""
        return await self.call("console", lambda: self.services.console.GetFunnel(console_pb2.GetFunnelRequest(collection=self.collection.name)))

    async def follow(self, run: str, stages: Mapping[str, str] | str) -> runs_pb2.Run:
        """Waits for a run's end, showing its stages as ours.

        Args:
            run: the other run's id.
            stages: its stage names, and what this run calls them; or one stage of ours that shows whatever the other is at.

        Returns:
            The run, which succeeded.

        Raises:
            ChildRunError: it failed, or somebody cancelled it.
        """
        while True:
            state = await self.handle.runs.get(run)
            if isinstance(stages, str):
                if at_work := [s for s in state.stages if s.state == runs_pb2.RUN_STATE_RUNNING]:
                    self.handle.edit(stages, _mirror(at_work[-1], name=at_work[-1].name))
            else:
                for theirs in state.stages:
                    if theirs.name in stages:
                        self.handle.edit(stages[theirs.name], _mirror(theirs))
            if state.state in ENDED:
                break
            try:
                self.handle.check()
            except CancelledError:
                await self.handle.runs.cancel(run)
                raise
            await asyncio.sleep(_POLL_SECONDS)
        if state.state != runs_pb2.RUN_STATE_SUCCEEDED:
            raise ChildRunError(state.error or f"run {run} was cancelled")
        return state

    @contextlib.contextmanager
    def stage(self, name: str, *, total: int = 0, unit: str = "") -> Iterator[StageHandle]:
        """A stage of this run; see ``RunHandle.stage``."""
        with self.handle.stage(name, total=total, unit=unit) as stage:
            yield stage


def finished(handle: RunHandle, name: str) -> bool:
    """Whether an earlier attempt has done the step."""
    stage = handle.find_stage(name)
    return stage is not None and stage.state == runs_pb2.RUN_STATE_SUCCEEDED


def _mirror(theirs: runs_pb2.Stage, *, name: str = "") -> Callable[[runs_pb2.Stage], None]:
    def change(ours: runs_pb2.Stage) -> None:
        ours.done, ours.total, ours.unit = theirs.done, theirs.total, theirs.unit
        ours.message = ": ".join(part for part in (name, theirs.message) if part)
        for key, value in theirs.counts.items():
            ours.counts[key] = value
        if not ours.HasField("started"):
            ours.started.CopyFrom(theirs.started)
        # The step itself says when it is done: more may follow than the other run knows.
        if ours.state in {runs_pb2.RUN_STATE_UNSPECIFIED, runs_pb2.RUN_STATE_QUEUED}:
            ours.state = runs_pb2.RUN_STATE_RUNNING

    return change
