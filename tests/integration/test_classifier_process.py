"""The classifier's processes as they are started in production: the job process trains, the serving process serves and drains."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from classifier_world import drawing, drawn_dataset
from cosmop_classifier.client import ClassifierClient
from cosmop_common.bus import Bus
from cosmop_common.jobs import submit
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runs import Runs
from cosmop_common.store import Store
from cosmop_local.servers import free_ports
from work_off import ended, job_process


def test_serving_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, cosmop_classifier.__main__; print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


async def test_a_trained_model_is_served_by_the_running_service(bus: Bus, store: Store, environment: dict[str, str], tmp_path: Path) -> None:
    dataset = await drawn_dataset(store)
    grpc_port, http_port = free_ports(2)
    whole = environment | {"COSMOP_GRPC_PORT": str(grpc_port), "COSMOP_HTTP_PORT": str(http_port), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w+") as log:
        server = await asyncio.create_subprocess_exec(sys.executable, "-m", "cosmop_classifier", env=os.environ | whole, stdout=log, stderr=log)
        try:
            train = runs_pb2.TrainClassifierJob(dataset=dataset, kind="binary", network="efficientnet_lite0", options={"copies": "0", "epochs": "0"})
            await submit(bus, Runs(bus), "classifier", runs_pb2.Job(run="process-1", collection="drawn", train_classifier=train))
            async with job_process("classifier", whole, log.fileno()) as worker:
                run = await ended(bus, "process-1", while_alive=[worker])
            assert run.state == runs_pb2.RUN_STATE_SUCCEEDED, run.error
            async with ClassifierClient(f"127.0.0.1:{grpc_port}", collection="drawn") as client:
                async with asyncio.timeout(90):
                    while not [m for m in await client.models() if m.active]:  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.1)
                answers = [answer async for answer in client.classify_many([drawing(700 + i, i % 2 == 0) for i in range(6)])]
            async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
                ready = await http.get(f"http://127.0.0.1:{http_port}/readyz")
                metrics = (await http.get(f"http://127.0.0.1:{http_port}/metrics")).text
        finally:
            server.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(server.wait(), 60)
        log.seek(0)
        said = log.read()
    assert code == 0, said
    assert '"error"' not in said
    assert [f"{a.model}/{a.version}" for a in answers] == [run.result["model"]] * 6
    assert sum(a.positive == (i % 2 == 0) for i, a in enumerate(answers)) >= 5
    assert ready.json() == {"started": True, "nats": True, "store": True, "models": True}
    assert "cosmop_classifier_batch_images_count" in metrics
