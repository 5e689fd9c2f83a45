"""What the classifier's tests stand on: a drawn dataset version in the real store, tiny models, and the serving process's parts."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import io
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx
from cosmop_classifier import registry
from cosmop_classifier.engine import Engines
from cosmop_classifier.evaluation import evaluate
from cosmop_classifier.heads import Features, Head, KnnHead, LinearHead, unit
from cosmop_classifier.hub import Hub
from cosmop_classifier.oip_service import InferenceServicer
from cosmop_classifier.review import Mode, Review
from cosmop_classifier.served import preprocessing_details, smoke_pixels, to_scores
from cosmop_classifier.service import ClassifierServicer
from cosmop_common.bus import Bus
from cosmop_common.datasets import ManifestRow, write_manifest
from cosmop_common.facts import Facts
from cosmop_common.grpc_server import GrpcServer, descriptor_names
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import dataset_key, sha256_hex
from cosmop_common.pb.cosmop.v1 import classifier_pb2, classifier_pb2_grpc
from cosmop_common.pb.inference import grpc_service_pb2, grpc_service_pb2_grpc
from cosmop_common.records import DatasetRecord, ModelCard, Prediction, PredictionsRecord
from cosmop_common.runs import Runs
from cosmop_common.settings import ServiceSettings
from cosmop_common.store import Store
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.preprocess import Preprocessing
from PIL import Image, ImageDraw

SIZE = 32
CHANNELS = 6


def drawing(seed: int, positive: bool) -> bytes:
    """A photo of nothing: discs (positive) or stripes, on a ground of its own, as JPEG."""
    rng = random.Random(seed)
    image = Image.new("RGB", (120, 100), tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, colour = rng.randrange(120), rng.randrange(100), tuple(rng.randrange(256) for _ in range(3))
        pen.ellipse((x - 14, y - 14, x + 14, y + 14), fill=colour) if positive else pen.line((x, 0, x + 20, 100), fill=colour, width=5)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=90)
    return sink.getvalue()


async def drawn_dataset(store: Store, collection: str = "drawn", sizes: dict[str, tuple[int, int]] | None = None) -> str:
    """A dataset version of drawings: images, manifest and record in the store. ``sizes``: (positive, negative) by split."""
    rows, splits, seed = [], {}, 0
    for split, (positive, negative) in (sizes or {"train": (14, 16), "val": (6, 6), "test": (8, 8)}).items():
        splits[split] = {"disc": positive, "stripe": negative}
        for label, count in splits[split].items():
            for _ in range(count):
                seed += 1
                image = await store.put_image(drawing(seed, label == "disc"), "image/jpeg")
                rows.append(ManifestRow(image, label, split, image, 120, 100, 1))
    manifest = write_manifest(rows)
    version = "v" + sha256_hex(manifest)[:8]
    await store.put(dataset_key(collection, version, "manifest.parquet"), manifest)
    record = DatasetRecord(
        collection=collection,
        version=version,
        created=datetime.datetime.now(datetime.UTC),
        classes=["disc", "stripe"],
        positive="disc",
        splits=splits,
        group_distance=10,
        manifest_sha256=sha256_hex(manifest),
    )
    await record.save(store, dataset_key(collection, version, "dataset.json"))
    return f"{collection}/{version}"


def tiny_network(seed: int = 0) -> bytes:
    """An ONNX network with our two outputs that runs in microseconds: one convolution and its average."""
    weight = np.random.default_rng(seed).standard_normal((CHANNELS, 3, 8, 8)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["images", "weight"], ["map"], strides=[8, 8]),
            onnx.helper.make_node("GlobalAveragePool", ["map"], ["average"]),
            onnx.helper.make_node("Flatten", ["average"], ["pooled"]),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            onnx.helper.make_tensor_value_info("pooled", onnx.TensorProto.FLOAT, ["n", CHANNELS]),
            onnx.helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, ["n", CHANNELS, "mh", "mw"]),
        ],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10).SerializeToString()


PREPROCESSING = Preprocessing(SIZE, SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


async def tiny_model(
    store: Store,
    folder: Path,
    name: str = "tiny-binary",
    version: str = "v1",
    *,
    head: Head | None = None,
    network: bytes = b"",
    smoke_error: float = 0.0,
    images: list[str] | None = None,
    predictions: list[Prediction] | None = None,
) -> ModelCard:
    """A registered model that answers at once: ``head`` on the tiny network (default: linear, bias 0)."""
    network = network or tiny_network()
    head = head or LinearHead(np.linspace(-1, 1, CHANNELS).astype(np.float32), 0.0)
    kind = registry.BINARY if isinstance(head, LinearHead) else registry.ONE_CLASS
    path = folder / f"{hashlib.sha256(network).hexdigest()[:16]}.onnx"
    path.write_bytes(network)
    pooled, feature_map = OnnxSession(path).run(smoke_pixels(SIZE), ["pooled", "map"])
    smoke = to_scores(kind, head.score(Features(pooled, feature_map)), 1.0) + smoke_error
    empty = evaluate([], "disc", np.zeros(0), 0.5)
    card = ModelCard(
        name=name,
        version=version,
        kind=kind,
        collection=name.partition("-")[0],
        network="tiny",
        dataset="tiny/v1",
        classes=["disc", "stripe"],
        positive="disc",
        threshold=0.5,
        metrics={"test": empty.metrics},
        details={"head": head.kind, "temperature": 1.0, "band": [0.4, 0.6], "smoke": smoke.tolist(), "preprocessing": preprocessing_details(PREPROCESSING)},
    )
    images = images or [sha256_hex(str(i).encode()) for i in range(8)]
    return await registry.save(
        store,
        registry.ModelFiles(card, network, head.to_bytes()),
        PredictionsRecord(model=name, version=version, predictions=predictions or []),
        registry.TrainingImages(images=images),
    )


def tiny_bank(seed: int = 3) -> KnnHead:
    return KnnHead(unit(np.random.default_rng(seed).standard_normal((8, CHANNELS)).astype(np.float32)), 2)


@dataclass
class Serving:
    """A serving process's parts, in this process, over a real port."""

    hub: Hub
    channel: grpc.aio.Channel
    classifier: classifier_pb2_grpc.ClassifierStub
    inference: grpc_service_pb2_grpc.GRPCInferenceServiceStub
    port: int

    async def settled(self) -> None:
        """Returns when all models that were active at start are loaded."""
        async with asyncio.timeout(120):
            while not self.hub.settled:  # noqa: ASYNC110 - the hub's own word is what is tested
                await asyncio.sleep(0.02)

    async def serves(self, name: str, version: str) -> None:
        """Returns when a version is the active one."""
        async with asyncio.timeout(120):
            while self.hub.active_version(name) != version:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(
    bus: Bus, store: Store, folder: Path, *, mode: Mode = "known", max_message_bytes: int = 64 << 20, **engine_settings
) -> AsyncIterator[Serving]:
    settings = ServiceSettings(grpc_port=0, max_message_bytes=max_message_bytes)
    engines = Engines(folder, decode_threads=2, **engine_settings)
    hub = Hub(store, ActiveModels(bus), engines)
    review, stopping = Review(Facts(bus), store, mode), asyncio.Event()
    server = GrpcServer(settings)
    classifier_pb2_grpc.add_ClassifierServicer_to_server(ClassifierServicer(hub, store, bus, Runs(bus), review), server.server)
    grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceServicer(hub, review, lambda: hub.settled, max_images=8), server.server)
    server.name(*descriptor_names([classifier_pb2, grpc_service_pb2]))
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]) as channel:
        watching, reviewing = asyncio.create_task(hub.watch()), asyncio.create_task(review.run(stopping))
        served = Serving(hub, channel, classifier_pb2_grpc.ClassifierStub(channel), grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel), port)
        await served.settled()
        yield served
        watching.cancel()
    await server.stop()
    stopping.set()
    await reviewing
    engines.close()
