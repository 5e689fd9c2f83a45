"""Is our FID the right number, and how fast is it? Against pytorch-fid (speed) and torch-fidelity (the value).

    python -m benchmarks.fid [--photos DIR] [--images 200] [--full]

Both peers run on the very weights that we run on (written in their own format, nothing is downloaded) and on the same square PNGs,
because pytorch-fid cannot batch images of different sizes. They are no dependency of COSMOP: install them into a folder,
``pip install --no-deps --target DIR pytorch-fid==0.3.0 torch-fidelity==0.4.0 tqdm``, and name it with ``BENCH_PEERS``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cosmop_common.images import decode_rgb
from cosmop_fid_evaluator.frechet import frechet_distance, frechet_value, frechet_with_influence
from cosmop_fid_evaluator.moments import Features, Moments
from cosmop_fid_evaluator.networks import Networks, extract
from cosmop_fid_evaluator.protocol import find_protocol
from cosmop_vision import inception
from cosmop_vision.settings import VisionSettings
from PIL import Image

from benchmarks import report

_SIDE = 256
_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"


def main() -> None:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--photos", type=Path, default=_PHOTOS, help="folder with photos anywhere below")
    parser.add_argument("--images", type=int, default=200, help="photos to measure, half against half")
    parser.add_argument("--full", action="store_true", help="also the trace term at N = 20,000")
    arguments = parser.parse_args()
    sys.path += [os.environ[name] for name in ("BENCH_PEERS",) if name in os.environ]
    with tempfile.TemporaryDirectory() as folder:
        files = prepared(arguments.photos, arguments.images, Path(folder))
        weights = published_weights(Path(folder) / "torch")
        seconds, features = {}, {}
        for name in ("fid", "fid-bf16"):
            seconds[name], features[name] = timed(our_extraction(name), files)
            print(f"{name}: {len(files) / seconds[name]:.1f} img/s", flush=True)
        seconds["pytorch-fid"], _ = timed(pytorch_fid_extraction(), files)
        print(f"pytorch-fid: {len(files) / seconds['pytorch-fid']:.1f} img/s", flush=True)
        ours, theirs = frechet_value(*halves(features["fid"])), torch_fidelity_value(weights, files)
        print(f"FID ours {ours:.6f}, torch-fidelity {theirs:.6f}", flush=True)
    n = len(files)
    report.write(
        "fid", n / seconds["fid"], "pytorch-fid", "0.3.0", n / seconds["pytorch-fid"], "img/s", n,
        bf16=n / seconds["fid-bf16"], bf16_ratio=seconds["pytorch-fid"] / seconds["fid-bf16"], bf16_fid=frechet_value(*halves(features["fid-bf16"])),
        fid={"ours": ours, "torch-fidelity 0.4.0": theirs, "relative_difference": abs(ours - theirs) / theirs},
        trace_term_seconds=trace_terms(full=arguments.full),
    )  # fmt: skip


def prepared(photos: Path, count: int, folder: Path) -> list[Path]:
    """Photos as square PNGs, spread over the folder's names."""
    found = sorted(p for p in photos.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    if len(found) < count:
        raise SystemExit(f"{photos} holds {len(found)} photos, and {count} are to be measured: name another folder with --photos, or fewer with --images")
    files = []
    for index, photo in enumerate(found[:: len(found) // count][:count]):
        files.append(folder / f"{index:05d}.png")
        decode_rgb(photo.read_bytes()).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(files[-1])
    # Both halves of the same kind, so that their distance is small and any difference shows.
    return files[0::2] + files[1::2]


def halves(features: Any) -> tuple[Any, Any]:
    """The two sets that are measured against each other."""
    return features[: len(features) // 2], features[len(features) // 2 :]


def timed(extraction: Callable[[Sequence[Path]], Features], files: Sequence[Path]) -> tuple[float, Features]:
    """Seconds for all files, after a warm-up."""
    extraction(files[:16])
    started = time.perf_counter()
    features = extraction(files)
    return time.perf_counter() - started, features


def our_extraction(name: str) -> Callable[[Sequence[Path]], Features]:
    """The evaluator's own path, from encoded bytes."""
    network = Networks().get(find_protocol(name))
    threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def run(files: Sequence[Path]) -> Features:
        parts = [extract(network, [p.read_bytes() for p in files[i : i + 16]], 0, threads).features for i in range(0, len(files), 16)]
        return np.concatenate(parts)

    return run


def published_weights(home: Path) -> Path:
    """Our weights in the format and under the name that both peers read, in a torch home of the benchmark's own."""
    import torch

    weights, file = inception.find_weights(VisionSettings())
    path = home / "hub" / "checkpoints" / inception.WEIGHTS_PUBLISHED.file
    path.parent.mkdir(parents=True)
    os.environ["TORCH_HOME"] = str(home)
    if weights is inception.WEIGHTS_PUBLISHED:
        path.symlink_to(file)
        return path
    script: Any = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    tensors = list(script.state_dict().values())
    state: dict[str, torch.Tensor] = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    for position, stem in enumerate(peer_names()):
        kernel, beta, mean, variance = tensors[4 * position : 4 * position + 4]
        state |= {f"{stem}.conv.weight": kernel, f"{stem}.bn.weight": torch.ones_like(beta), f"{stem}.bn.bias": beta}
        state |= {f"{stem}.bn.running_mean": mean, f"{stem}.bn.running_var": variance, f"{stem}.bn.num_batches_tracked": torch.tensor(0)}
    torch.save(state, path)
    return path


def peer_names() -> list[str]:
    """The peers' names of the convolutions, in the network's order."""
    stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    blocks = {
        "5b 5c 5d": "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool",
        "6a": "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3",
        "6b 6c 6d 6e": "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool",
        "7a": "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4",
        "7b 7c": "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool",
    }
    return stem + [f"Mixed_{block}.branch{branch}" for group, branches in blocks.items() for block in group.split() for branch in branches.split()]


def pytorch_fid_extraction() -> Callable[[Sequence[Path]], Features]:
    """pytorch-fid as its command runs it: batches of 50, one loader for each core up to its default of 8."""
    import cosmop_vision.torch_quirks  # noqa: F401 - lets torchvision import where its operators do not fit

    try:
        from pytorch_fid.fid_score import get_activations  # type: ignore[import-not-found,unused-ignore]
        from pytorch_fid.inception import InceptionV3  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise SystemExit(f"{error}: pip install --no-deps --target DIR pytorch-fid==0.3.0 torch-fidelity==0.4.0 tqdm, then BENCH_PEERS=DIR") from error
    model = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    workers = min(len(os.sched_getaffinity(0)), 8)
    return lambda files: np.asarray(get_activations([str(f) for f in files], model, 50, 2048, "cpu", workers))


def torch_fidelity_value(weights: Path, files: Sequence[Path]) -> float:
    """FID of half against half by torch-fidelity's own network, resize, statistics and trace term."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # type: ignore[import-not-found,unused-ignore]
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # type: ignore[import-not-found,unused-ignore]

    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)).eval()
    images: Any = torch.from_numpy(np.stack([np.asarray(Image.open(f)) for f in files])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = torch.cat([network(part.contiguous())[0] for part in images.split(16)])
    first, second = (fid_features_to_statistics(part) for part in halves(features))
    return float(fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"])


def trace_terms(*, full: bool) -> dict[str, float]:
    """Seconds for the distance of N vectors of 2048 features, once they are known."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2048, 2048)) * np.arange(1.0, 2049.0) ** -0.5
    seconds = {}
    for n in (500, 20_000) if full else (500,):
        first, second = (rng.normal(size=(n, 2048)) @ mixing for _ in range(2))
        for name, call in (("value", frechet_value), ("with interval", frechet_with_influence)):
            if n > 2048 and call is frechet_value:
                merged = Moments.of(first), Moments.of(second)
                started = time.perf_counter()
                frechet_distance(*merged)
            else:
                started = time.perf_counter()
                call(first, second)
            seconds[f"N = {n}, {name}"] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    main()
