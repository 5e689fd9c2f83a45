"""Training the human filter from the shell."""

from __future__ import annotations

from pathlib import Path

from cosmop_common.pb.cosmop.v1 import human_detector_pb2, runs_pb2

from cosmop_console.cli.remote import call, follow
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say

_FOLDERS = {"pass", "crowdhuman", "folder"}


async def train(target: Target, collection: str, job: runs_pb2.TrainHumanDetectorJob) -> None:
    """A training of the human filter, watched; says which version came of it, and what its threshold promises."""
    async with target.services() as services:
        request = human_detector_pb2.TrainDetectorRequest(collection=collection, train=job)
        run = await follow(services, await call("human-detector", services.human_detector.Train(request)))
    say(f"model {run.result['model']}, threshold {run.result['threshold']}: {run.result['threshold_rule']}")


def absolute(spec: str) -> str:
    """Data as the service finds it, which has another working directory: folders of this machine by their whole path."""
    kind, colon, place = spec.partition(":")
    if colon and kind in _FOLDERS and Path(place).expanduser().exists():
        return f"{kind}:{Path(place).expanduser().resolve()}"
    return str(Path(spec).expanduser().resolve()) if Path(spec).expanduser().exists() else spec
