"""Load for ``benchmarks.serve``, in a process of its own: closed loop (clients that wait) and open loop (arrivals that do not).

    python -m benchmarks.serve_load < spec.json > result.json

In the open loop latency counts from the moment a request was due, whether or not the generator could send it then: a server that stalls
cannot hide it (Tene, "How NOT to Measure Latency", 2013: coordinated omission).
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cosmop_common.pb.cosmop.v1 import classifier_pb2, classifier_pb2_grpc
from cosmop_common.pb.inference import grpc_service_pb2, grpc_service_pb2_grpc

#: One image to its probability.
Ask = Callable[[bytes], Awaitable[float]]
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


class Tally:
    """Latencies of answers by outcome, and which versions answered."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.versions: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()

    async def take(self, ask: Ask, image: bytes, due: float) -> None:
        """Asks about one image and notes what came of it, and how long after ``due``."""
        try:
            await ask(image)
            outcome = "ok"
        except grpc.aio.AioRpcError as error:
            outcome = error.code().name
            self.messages[(error.details() or "")[:120]] += 1
        except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError) as error:
            outcome = type(error).__name__
            self.messages[str(error)[:120]] += 1
        self.seconds.setdefault(outcome, []).append(time.perf_counter() - due)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Rates per second and latencies in milliseconds."""
        good = self.seconds.get("ok", [])
        found: dict[str, Any] = {"rate": len(good) / seconds, "ok": len(good), "errors": {k: len(v) for k, v in self.seconds.items() if k != "ok"}}
        for outcome, values in self.seconds.items():
            p50, p99 = np.percentile(values, [50, 99]) * 1000
            found[outcome.lower() + "_ms"] = {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}
        return found | {"versions": dict(self.versions), "messages": dict(self.messages.most_common(3))}


def asker(spec: dict[str, Any], number: int, tally: Tally) -> Ask:
    """A client of its own connection."""
    address, timeout = f"127.0.0.1:{spec['port']}", spec.get("timeout", 30.0)
    if spec["kind"] == "litserve":
        return _Http(spec["port"], timeout).ask
    channel = grpc.aio.insecure_channel(address, options=[*_OPTIONS, ("cosmop.client", number)])
    if spec["kind"] == "cosmop":
        stub = classifier_pb2_grpc.ClassifierStub(channel)

        async def ask(image: bytes) -> float:
            answer = await stub.Classify(classifier_pb2.ClassifyRequest(content=image, model=spec["model"]), timeout=timeout)
            tally.versions[f"{answer.version} {'+' if answer.positive else '-'}"] += 1
            return float(answer.probability)

        return ask
    if spec["kind"] == "torchvision":
        call = channel.unary_unary("/peer.Classifier/Classify")

        async def ask_plain(image: bytes) -> float:
            return float(json.loads(await call(image, timeout=timeout)))

        return ask_plain
    inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def ask_protocol(image: bytes) -> float:
        tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(image)
        answer = await inference.ModelInfer(grpc_service_pb2.ModelInferRequest(model_name=spec["model"], inputs=[tensor]), timeout=timeout)
        return float(answer.outputs[0].contents.fp64_contents[0])

    return ask_protocol


class _Http:
    """Just enough HTTP/1.1 with a kept connection that the generator costs no more than it does over gRPC."""

    def __init__(self, port: int, timeout: float) -> None:
        self._port, self._timeout = port, timeout
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, image: bytes) -> float:
        return await asyncio.wait_for(self._ask(image), self._timeout)

    async def _ask(self, image: bytes) -> float:
        body = b'{"image": "' + base64.b64encode(image) + b'"}'
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = await reader.readexactly(int(fields["content-length"]))
        self._idle.append((reader, writer))
        if " 200 " not in f"{status} ":
            raise ValueError(f"{status}: {answer[:100]!r}")
        return float(json.loads(answer)["probability"])


async def closed(spec: dict[str, Any], images: list[bytes]) -> dict[str, Any]:
    """``clients`` of them, each asking again as soon as it is answered, for ``seconds``."""
    tally = Tally()
    started = time.perf_counter()
    until = started + spec["seconds"]

    async def client(number: int) -> None:
        ask, at = asker(spec, number, tally), number
        while time.perf_counter() < until:
            await tally.take(ask, images[at % len(images)], time.perf_counter())
            at += spec["clients"]

    await asyncio.gather(*map(client, range(spec["clients"])))
    return tally.summary(time.perf_counter() - started)


async def opened(spec: dict[str, Any], images: list[bytes]) -> dict[str, Any]:
    """Poisson arrivals at ``rate`` a second for ``seconds``, over eight connections; then all answers are waited for."""
    tally, rng = Tally(), random.Random(0)
    askers = [asker(spec, number, tally) for number in range(8)]
    tasks: list[asyncio.Task[None]] = []
    started = due = time.perf_counter()
    while (due := due + rng.expovariate(spec["rate"])) < started + spec["seconds"]:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(tally.take(askers[len(tasks) % 8], images[len(tasks) % len(images)], due)))
    await asyncio.gather(*tasks)
    return tally.summary(spec["seconds"]) | {"offered": len(tasks) / spec["seconds"]}


async def answers(spec: dict[str, Any], images: list[bytes]) -> dict[str, Any]:
    """Each image once: what the server says of it."""
    ask = asker(spec, 0, Tally())
    return {"probabilities": [await ask(image) for image in images]}


def main() -> None:
    """Reads what to do, does it, writes what it saw."""
    spec = json.load(sys.stdin)
    images = [path.read_bytes() for path in sorted(Path(spec["images"]).iterdir())]
    modes = {"closed": closed, "open": opened, "answers": answers}
    json.dump(asyncio.run(modes[spec["mode"]](spec, images)), sys.stdout)


if __name__ == "__main__":
    main()
