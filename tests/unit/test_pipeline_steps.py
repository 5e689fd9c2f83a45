"""The order of the pipeline's steps, and what a failed one stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from cosmop_common.errors import NotReadyError, StoppingError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.run_handle import RunHandle
from cosmop_console import pipeline


def handle() -> RunHandle:
    return RunHandle(bus=None, runs=None, job=runs_pb2.Job(run="r"), state=runs_pb2.Run(id="r"))  # type: ignore[arg-type]


def steps(done: list[str], failing: dict[str, Exception]) -> tuple[tuple[str, Callable[..., Awaitable[None]], tuple[str, ...]], ...]:
    def step(name: str) -> Callable[..., Awaitable[None]]:
        async def run(context: SimpleNamespace) -> None:
            with context.handle.stage(name):
                if name in failing:
                    raise failing[name]
                done.append(name)

        return run

    return tuple((name, step(name), needs) for name, _, needs in pipeline.STEPS)


async def test_a_failed_step_stops_only_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(pipeline, "STEPS", steps(done, {"gan": NotReadyError("too few images")}))
    run = handle()
    failures = await pipeline._run_steps(SimpleNamespace(handle=run))
    assert failures == {"gan": "too few images", "synthetic": "needs gan", "judge": "needs synthetic", "experiment": "needs synthetic"}
    assert done == ["fit", "collect", "label", "freeze", "binary", "one-class", "report"]
    skipped = run.find_stage("judge")
    assert skipped is not None
    assert skipped.message == "needs synthetic"


async def test_run_again_does_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    run = handle()
    monkeypatch.setattr(pipeline, "STEPS", steps(done, {"gan": NotReadyError("too few images")}))
    await pipeline._run_steps(SimpleNamespace(handle=run))
    done.clear()
    monkeypatch.setattr(pipeline, "STEPS", steps(done, {}))
    assert await pipeline._run_steps(SimpleNamespace(handle=run)) == {}
    assert done == ["gan", "synthetic", "judge", "experiment", "report"]


async def test_an_interruption_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(pipeline, "STEPS", steps(done, {"collect": StoppingError("later")}))
    with pytest.raises(StoppingError):
        await pipeline._run_steps(SimpleNamespace(handle=handle()))
    assert done == ["fit"]
