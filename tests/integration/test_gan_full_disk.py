"""A disk that fills up while a run trains: the run says so, keeps its last checkpoint, and goes on from it once there is room."""

from __future__ import annotations

from typing import Any

import pytest
from cosmop_common import jobs
from cosmop_common.bus import Bus
from cosmop_common.errors import StoreFailingError
from cosmop_common.jobs import submit
from cosmop_common.names import run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import GanRunRecord, SnapshotRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from minio.error import S3Error
from test_gan_training import drawing, freeze, train_job, work
from urllib3 import HTTPResponse


def refusal(status: int, code: str, key: str) -> S3Error:
    return S3Error(HTTPResponse(status=status), code, "no room", key, "request", "host")


class Disk:
    """A store's client, which may run out of space for what lies below ``prefix``, and says so as a server does."""

    def __init__(self, client: Any, prefix: str) -> None:
        self.client, self.prefix = client, prefix
        self.full = False
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def put_object(self, bucket: str, key: str, *rest: Any, **more: Any) -> Any:
        if self.full and key.startswith(self.prefix):
            self.refused += 1
            raise refusal(507, "XMinioStorageFull", key)
        return self.client.put_object(bucket, key, *rest, **more)


async def test_a_full_disk_costs_no_more_than_the_time_since_the_last_checkpoint(
    bus: Bus, settings: ConnectionSettings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_RETRY_SECONDS", 0.05)
    await freeze(store, [drawing(k) for k in range(30)])
    runs, disk = Runs(bus), Disk(store._client, run_key("full", ""))
    quick = {"evaluate": "false", "checkpoint_seconds": "1000"}
    await submit(bus, runs, "gan-trainer", train_job("whole", snapshots=2, **quick))
    await work(bus, settings, store)

    put_json = store.put_json

    async def fill_after_the_first_half(key: str, value: Any) -> None:
        await put_json(key, value)
        disk.full = disk.full or (key == run_key("full", "checkpoint/latest.json") and value["checkpoints"][0]["images"] == 80)

    monkeypatch.setattr(store, "put_json", fill_after_the_first_half)
    monkeypatch.setattr(store, "_client", disk)
    await submit(bus, runs, "gan-trainer", train_job("full", snapshots=2, **quick))
    await work(bus, settings, store)
    run = await runs.get("full")
    assert run.state == runs_pb2.RUN_STATE_FAILED
    assert "is full: free space or grow its volume" in run.error
    assert disk.refused
    kept = await store.get_json(run_key("full", "checkpoint/latest.json"))
    assert kept["checkpoints"][0]["images"] == 80

    monkeypatch.setattr(store, "put_json", put_json)
    disk.full = False
    await submit(bus, runs, "gan-trainer", train_job("full", snapshots=2, **quick))
    await work(bus, settings, store)
    assert (await runs.get("full")).state == runs_pb2.RUN_STATE_SUCCEEDED
    record = await GanRunRecord.load(store, run_key("full", "gan.json"))
    assert record.snapshots == [0, 0.08, 0.16]
    whole, resumed = [await SnapshotRecord.load(store, snapshot_key(name, 0.16, "snapshot.json")) for name in ("whole", "full")]
    assert whole.weights_sha256 == resumed.weights_sha256


async def test_a_server_that_does_not_say_why_is_told_by_what_it_answered(store: Store) -> None:
    """SeaweedFS answers InternalError when its disk is full."""

    def fail() -> None:
        raise refusal(500, "InternalError", "a/b")

    with pytest.raises(StoreFailingError, match=r"answered InternalError for .*/a/b: look at its log, and whether its disk is full"):
        await store._run(fail, "a/b", tries=1)
