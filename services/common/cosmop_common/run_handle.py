"""A job's hold on its run: its progress, its results, and whether to stop. Thread-safe, because long work runs in threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cosmop_common.bus import Bus
from cosmop_common.errors import CancelledError, StoppingError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import ENDED, Runs, publish_event


@dataclass
class StageHandle:
    """Progress of one stage of a run. All methods may be called from any thread; writes are gathered."""

    _handle: RunHandle
    name: str

    def advance(self, done: int = 1, **counts: int) -> None:
        """Adds to what is done, and to further counts."""

        def change(stage: runs_pb2.Stage) -> None:
            stage.done += done
            for key, value in counts.items():
                stage.counts[key] += value

        self._handle.edit(self.name, change)

    def set(self, *, done: int | None = None, total: int | None = None, message: str | None = None, **counts: int) -> None:
        """Sets what is done, the total, the message, or further counts."""

        def change(stage: runs_pb2.Stage) -> None:
            if done is not None:
                stage.done = done
            if total is not None:
                stage.total = total
            if message is not None:
                stage.message = message
            for key, value in counts.items():
                stage.counts[key] = value

        self._handle.edit(self.name, change)

    def counts(self, counts: Mapping[str, int]) -> None:
        """Sets further counts whose names are data: reasons, classes."""

        def change(stage: runs_pb2.Stage) -> None:
            for key, value in counts.items():
                stage.counts[key] = value

        self._handle.edit(self.name, change)

    def result(self, **values: str) -> None:
        """Keeps what later stages need of this one."""

        def change(stage: runs_pb2.Stage) -> None:
            for key, value in values.items():
                stage.result[key] = value

        self._handle.edit(self.name, change)


@dataclass
class RunHandle:
    """A job's hold on its run: progress, results, and whether to stop. Thread-safe."""

    bus: Bus
    runs: Runs
    job: runs_pb2.Job
    state: runs_pb2.Run
    #: The process is told to end: checkpoint, then raise ``StoppingError`` (or call ``check``).
    stopping: threading.Event = field(default_factory=threading.Event)
    #: Somebody asked for the run's end.
    cancelled: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: One write at a time: an older one that had to try again would undo a newer one, the run's end included.
    _flushing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _dirty: bool = False
    _before: int = -1

    def __post_init__(self) -> None:
        """Notes where this attempt begins."""
        self._before = _finished_work(self.state)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.job.run

    def check(self) -> None:
        """Raises ``CancelledError`` or ``StoppingError`` when the job should end now."""
        if self.cancelled.is_set():
            raise CancelledError(f"run {self.id} was cancelled")
        if self.stopping.is_set():
            raise StoppingError(f"run {self.id} is interrupted and goes on later")

    def find_stage(self, name: str) -> runs_pb2.Stage | None:
        """A stage as it stands, from an earlier attempt too."""
        with self._lock:
            found = next((s for s in self.state.stages if s.name == name), None)
            if found is None:
                return None
            copy = runs_pb2.Stage()
            copy.CopyFrom(found)
            return copy

    def edit(self, name: str, change: Callable[[runs_pb2.Stage], None]) -> None:
        """Changes a stage, made where there is none."""
        with self._lock:
            stage = next((s for s in self.state.stages if s.name == name), None)
            if stage is None:
                stage = self.state.stages.add(name=name, state=runs_pb2.RUN_STATE_QUEUED)
            change(stage)
            self._dirty = True

    @contextlib.contextmanager
    def stage(self, name: str, *, total: int = 0, unit: str = "") -> Iterator[StageHandle]:
        """A stage from start to finish: marks its state, its times, and its failure."""

        def start(stage: runs_pb2.Stage) -> None:
            if stage.state != runs_pb2.RUN_STATE_RUNNING or not stage.HasField("started"):
                # Begun, or begun again after it had ended: what lay between is not its time.
                stage.started.GetCurrentTime()
                stage.ClearField("finished")
            stage.state, stage.unit, stage.total = runs_pb2.RUN_STATE_RUNNING, unit, total or stage.total
            stage.message = ""

        self.edit(name, start)
        outcome, message = runs_pb2.RUN_STATE_SUCCEEDED, None
        try:
            yield StageHandle(self, name)
        except CancelledError:
            outcome = runs_pb2.RUN_STATE_CANCELLED
            raise
        except StoppingError:
            outcome = runs_pb2.RUN_STATE_QUEUED
            raise
        except Exception as error:
            outcome, message = runs_pb2.RUN_STATE_FAILED, str(error)
            raise
        finally:

            def finish(stage: runs_pb2.Stage) -> None:
                stage.state = outcome
                if outcome != runs_pb2.RUN_STATE_QUEUED:
                    stage.finished.GetCurrentTime()
                if message is not None:
                    stage.message = message

            self.edit(name, finish)

    def result(self, **values: str) -> None:
        """Keeps results of the run: ids, keys, names."""
        with self._lock:
            for key, value in values.items():
                self.state.result[key] = value
            self._dirty = True

    async def event(self, name: str, payload: bytes = b"") -> None:
        """Tells watchers."""
        await publish_event(self.bus, self.id, name, payload)

    async def flush(self) -> None:
        """Writes what changed into the run's state, keeping the words of others (cancel)."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        with self._lock:
            if not self._dirty:
                return
            self._dirty = False
            if _finished_work(self.state) > self._before:
                # Not a fruitless attempt: should the process die now, the count begins anew.
                self.state.attempts = 0
            mine = runs_pb2.Run()
            mine.CopyFrom(self.state)

        def merge(stored: runs_pb2.Run) -> None:
            cancel = stored.cancel
            stored.CopyFrom(mine)
            stored.cancel = cancel
            if cancel:
                self.cancelled.set()

        await self.runs.change(self.id, merge)

    async def end(self, state: runs_pb2.RunState.ValueType, error: str = "") -> None:
        """Writes the outcome of this attempt; only one that failed is counted as fruitless."""
        with self._lock:
            self.state.state, self.state.error = state, error
            if not error:
                self.state.attempts = 0
            if state in ENDED:
                self.state.finished.GetCurrentTime()
            self._dirty = True
        await self.flush()


def _finished_work(run: runs_pb2.Run) -> int:
    """What a run has behind it: grows with progress, so that two moments can be compared."""
    return sum(int(stage.done) + (stage.state == runs_pb2.RUN_STATE_SUCCEEDED) for stage in run.stages)
