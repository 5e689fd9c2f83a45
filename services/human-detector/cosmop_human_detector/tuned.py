"""A fine-tuned network as a model version: its trunk as ONNX beside its head. Writing needs torch, serving does not."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cosmop_common.records import ModelCard
from cosmop_common.store import Store
from cosmop_vision.networks import find_network
from cosmop_vision.onnx_session import OnnxSession
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings

from cosmop_human_detector.detectors import HeadDetector
from cosmop_human_detector.heads import Head
from cosmop_human_detector.registry import HEAD_FILE, load_file

if TYPE_CHECKING:
    from cosmop_vision.modules import Backbone

BACKEND = "tuned"
NETWORK_FILE = "network.onnx"


def to_onnx(backbone: Backbone) -> bytes:
    """A network's trunk as ONNX: images of any size whose sides are multiples of its stride to pooled features and the feature map."""
    from cosmop_vision.export import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NETWORK_FILE
        write_onnx(backbone.cpu(), path, size=backbone.network.size, outputs=("pooled", "map"), spatial=("map",))
        return path.read_bytes()


def detector(head: Head, network: Path, settings: VisionSettings) -> HeadDetector:
    """A head on a trunk that lies as ONNX at ``network``. Raises ``ExportError`` where the file is none."""
    session = OnnxSession(network, settings)
    return HeadDetector(head, Extractor(find_network(head.shape.network), ("map",), "onnx", session))


async def load_tuned(store: Store, card: ModelCard, settings: VisionSettings) -> HeadDetector:
    """A registered version, its trunk kept in the cache. Raises ``NotFoundError``, ``ModelFileError``, ``ExportError``."""
    head = Head.from_bytes(await load_file(store, card, HEAD_FILE))
    path = settings.cache / "models" / f"{card.files[NETWORK_FILE]}.onnx"
    if not path.exists():
        data = await load_file(store, card, NETWORK_FILE)
        await asyncio.to_thread(write_whole, path, data)
    return await asyncio.to_thread(detector, head, path, settings)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that other processes may look for: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)
