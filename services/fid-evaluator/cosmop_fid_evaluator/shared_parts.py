"""A large set measured by several workers: each part is a job, and the evaluation takes part itself.

An evaluation offers every part that the cache lacks as a job ``extract_features``, in the set's order. Free workers take them from
the front; the evaluation takes back, from the end, what nobody has begun, and computes it. So one worker alone finishes as surely
as many do, and nobody ever waits for a part that nobody works on: a part whose worker died is taken over when its run has said
nothing for as long as the queue waits for a heartbeat. Two that compute the same part store the same object.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cosmop_common.errors import CancelledError
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.run_handle import RunHandle
from cosmop_common.runs import ENDED

from cosmop_fid_evaluator.measured_set import Part, Progress
from cosmop_fid_evaluator.networks import Extracted
from cosmop_fid_evaluator.settings import SERVICE

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


@dataclass
class SharedParts:
    """The workers of this service, helping with one set of one evaluation.

    Attributes:
        run: the evaluation's; parts are its children.
        job: what all parts have in common: the set, the protocol.
        silence: seconds without a word from a part's run after which its worker is held for dead.
    """

    run: RunHandle
    job: runs_pb2.ExtractFeaturesJob
    silence: float
    #: What was last heard of each part's run, and when.
    _heard: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    async def gather(
        self, parts: Mapping[str, Part], find: Callable[[str], Awaitable[Extracted | None]], compute: Callable[[Part], Awaitable[Extracted]], progress: Progress
    ) -> dict[str, Extracted]:
        """Features of all parts by key, whoever computes them.

        Args:
            parts: by their keys in the cache.
            find: a part's features in the cache, by its key.
            compute: a part's features, computed here and left in the cache.
        """
        found: dict[str, Extracted] = {}
        for key, part in parts.items():
            if (cached := await find(key)) is not None:
                found[key] = cached
                progress.images(len(part.names), "cached")
        missing = {key: part for key, part in parts.items() if key not in found}
        try:
            for key, part in missing.items():
                await self._offer(key, part)
            while missing:
                progress.check()
                mine = await self._next(missing, found, find, progress)
                if mine is None:
                    await asyncio.sleep(_POLL_SECONDS if missing else 0)
                    continue
                found[mine] = await compute(missing.pop(mine))
                await self._settle(mine)
        except CancelledError:
            for key in missing:
                await self._take_back(key)
            raise
        return found

    async def _next(
        self, missing: dict[str, Part], found: dict[str, Extracted], find: Callable[[str], Awaitable[Extracted | None]], progress: Progress
    ) -> str | None:
        """Fetches what others have finished, and says which part to compute here; None: all are being worked on."""
        orphans: list[str] = []
        for key in reversed(list(missing)):
            state = await self.run.runs.find(part_run(key))
            if state is not None and state.state not in ENDED:
                if state.state == runs_pb2.RUN_STATE_QUEUED and await self._take_back(key):
                    return key
                if self._silent(key, state):
                    log.warning("the worker of %s has said nothing for %.0f s: its part is computed here", state.id, self.silence)
                    orphans.append(key)
            elif (features := await find(key)) is not None:
                found[key] = features
                progress.images(len(missing.pop(key).names), "others")
            else:
                # It failed, or another evaluation has taken it back and may be at it: what nobody has begun comes first.
                orphans.append(key)
        return orphans[0] if orphans else None

    async def _offer(self, key: str, part: Part) -> None:
        spec = runs_pb2.ExtractFeaturesJob(start=part.start, count=len(part.names))
        spec.MergeFrom(self.job)
        state = await self.run.runs.find(part_run(key))
        if state is not None and state.state == runs_pb2.RUN_STATE_SUCCEEDED:
            # Done once, but the cache has been emptied since: a run that succeeded would not be queued again.
            await self.run.runs.change(state.id, lambda r: setattr(r, "state", runs_pb2.RUN_STATE_CANCELLED))
        job = runs_pb2.Job(run=part_run(key), collection=self.run.job.collection, parent=self.run.id, extract_features=spec)
        await submit(self.run.bus, self.run.runs, SERVICE, job)

    async def _take_back(self, key: str) -> bool:
        """Whether nobody had begun the part: then nobody will."""
        taken = False

        def word(state: runs_pb2.Run) -> None:
            nonlocal taken
            taken = state.state == runs_pb2.RUN_STATE_QUEUED
            if taken:
                state.state = runs_pb2.RUN_STATE_CANCELLED
                state.finished.GetCurrentTime()

        await self.run.runs.change(part_run(key), word)
        return taken

    async def _settle(self, key: str) -> None:
        """A part that was taken back is done; who lists runs should not read that it was cancelled."""

        def word(state: runs_pb2.Run) -> None:
            if state.state == runs_pb2.RUN_STATE_CANCELLED:
                state.state = runs_pb2.RUN_STATE_SUCCEEDED
                state.result["computed_by"] = self.run.id

        await self.run.runs.change(part_run(key), word)

    def _silent(self, key: str, state: runs_pb2.Run) -> bool:
        now, said = time.monotonic(), state.SerializeToString(deterministic=True)
        before, since = self._heard.get(key, (b"", now))
        self._heard[key] = (said, since if said == before else now)
        return said == before and now - since > self.silence


def part_run(key: str) -> str:
    """The run that computes a part: the same id whoever offers it, so that two evaluations share it."""
    return f"features-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
