"""The whole way from keywords to a report: a durable job of the console.

It survives the command that started it, and every restart of its own: each step's outcome is kept in the run's state,
a step that is done is not done again, and the work itself is done by other services in runs of their own, whose ids
follow from this run's. A step that fails stops only those that need it; the report says what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cosmop_common.collections_kv import Collections
from cosmop_common.endpoints import Endpoints
from cosmop_common.errors import CancelledError, CosmopError, StoppingError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.run_handle import RunHandle
from cosmop_common.store import Store

from cosmop_console.clients import connect
from cosmop_console.pipeline_context import Context, finished
from cosmop_console.pipeline_curate import collect_images, fit_filter, freeze, import_labels
from cosmop_console.pipeline_learn import ask_the_question, judge, make_synthetic, train_binary, train_gan, train_one_class, write_report
from cosmop_console.settings import Settings

log = logging.getLogger(__name__)

#: Steps in order: what the run calls it, what it does, and which steps must have succeeded before.
STEPS = (
    ("fit", fit_filter, ()),
    ("collect", collect_images, ()),
    ("label", import_labels, ("collect",)),
    ("freeze", freeze, ("collect", "label")),
    ("gan", train_gan, ("freeze",)),
    ("binary", train_binary, ("freeze",)),
    ("one-class", train_one_class, ("freeze",)),
    ("synthetic", make_synthetic, ("gan",)),
    ("judge", judge, ("synthetic", "binary")),
    ("experiment", ask_the_question, ("synthetic", "binary")),
    ("report", write_report, ()),
)


class IncompleteError(CosmopError):
    """The pipeline ended, and some of its steps failed. The report is there; running it again tries only those."""

    permanent = True


async def run_pipeline(handle: RunHandle) -> None:
    """Takes a collection the whole way; goes on where an earlier attempt stopped.

    Raises:
        IncompleteError: steps failed; the message names each with its reason.
    """
    settings = Settings()
    store, collections = Store(settings), Collections(handle.bus)
    try:
        collection = await collections.get(handle.job.collection)
        async with connect(Endpoints()) as services:
            context = Context(handle, collection, handle.job.pipeline, services, store)
            failures = await _run_steps(context)
    finally:
        store.close()
    if failures:
        raise IncompleteError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))


async def _run_steps(context: Context) -> dict[str, str]:
    """Runs what is not done yet; returns the steps that could not be done, with their reasons."""
    failures: dict[str, str] = {}
    for name, step, needs in STEPS:
        if missing := [n for n in needs if n in failures]:
            failures[name] = f"needs {' and '.join(missing)}"
            context.handle.edit(name, _skipped(failures[name]))
            continue
        # The report is of what there is now: it is made anew at every attempt.
        if finished(context.handle, name) and name != "report":
            continue
        try:
            await step(context)
        except (CancelledError, StoppingError):
            raise
        except CosmopError as error:
            log.warning("step %s failed: %s", name, error)
            failures[name] = str(error)
        else:
            context.handle.check()
    return failures


def _skipped(reason: str) -> Callable[[runs_pb2.Stage], None]:
    def change(stage: runs_pb2.Stage) -> None:
        stage.state, stage.message = runs_pb2.RUN_STATE_CANCELLED, reason

    return change
