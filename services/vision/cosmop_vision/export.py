"""Networks written as ONNX, once per weights, into the cache: inference then needs ONNX Runtime alone.

``python -m cosmop_vision.export NETWORK`` writes one and prints its path. ``exported`` does it in a child process, so that a
serving process never loads torch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmop_vision.errors import ExportError
from cosmop_vision.networks import Network, find_network
from cosmop_vision.settings import VisionSettings
from cosmop_vision.weights import weights_file

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
#: Counts changes of what is written; part of the file's name.
_RECIPE = 1


def onnx_path(network: Network, settings: VisionSettings) -> Path:
    """Where the exported network lies: its name says network, weights and recipe. Its inputs may have any size."""
    return settings.cache / "onnx" / f"{network.name}-{network.weights.sha256[:12]}-{_RECIPE}.onnx"


def exported(name: str, settings: VisionSettings) -> Path:
    """The network as an ONNX file: from ``COSMOP_NETWORKS_DIR``, else from the cache, else exported into it by a child process.

    Raises:
        UnknownNetworkError: no network has this name.
        WeightsUnavailableError: its weights cannot be had.
        ExportError: torch could not write it.
    """
    network = find_network(name)
    path = onnx_path(network, settings)
    if settings.networks_dir and (given := settings.networks_dir.expanduser() / path.name).is_file():
        return given
    if path.is_file():
        return path
    weights_file(network.weights, settings)
    child = subprocess.run([sys.executable, "-W", "ignore", "-m", "cosmop_vision.export", name, str(path)], capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if child.returncode != 0:
        raise ExportError(f"{name} could not be written as ONNX; COSMOP_DEVICE and runtime 'torch' do without. The export said: {child.stderr[-2000:]}")
    return path


def write_onnx(module: nn.Module, path: Path, *, size: int, outputs: Sequence[str], spatial: Sequence[str] = ()) -> None:
    """Writes a torch module of one input, ``images`` (N x 3 x H x W float32), as ONNX; whole or not at all.

    Args:
        size: side of the example input.
        outputs: names of the module's outputs, in their order.
        spatial: those of them that are maps, whose height and width follow the input's.
    """
    import torch

    # The exporter restores the mode it found, for all submodules: one left in training mode would turn dropout on.
    module.eval()
    axes = {"images": {0: "n", 2: "height", 3: "width"}} | {name: {0: "n"} for name in outputs}
    axes |= {name: {0: "n", 2: f"{name}_height", 3: f"{name}_width"} for name in spatial}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partial = Path(folder) / path.name
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, size, size),),
            str(partial),
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the TorchScript exporter needs no onnxscript
        )
        partial.replace(path)


def main(name: str, path: Path | None = None) -> None:
    """Exports one network's backbone to ``path``; without one into the cache, where it is not there, and prints where it lies."""
    if path is None:
        sys.stdout.write(f"{exported(name, VisionSettings())}\n")
        return
    from cosmop_vision.modules import load_backbone

    write_onnx(load_backbone(name), path, size=find_network(name).size, outputs=("pooled", "map"), spatial=("map",))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
