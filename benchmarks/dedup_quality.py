"""Which copies does each hash find, and what does it take for a copy that is none?

``python -m benchmarks.dedup_quality``. Each photo is transformed, stored as JPEG, hashed, and compared with the hashes of all originals. Recall: transformed
photos within the distance of their own original. Precision: hits that are the own original, among all hits. ImageHash is asked itself; imagededup through
our compatibility mode, which is tested to be bit-exact with it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import imagehash
import matplotlib as mpl
import numpy as np
from cosmop_dedup.compat import imagededup_phash
from cosmop_dedup.hashing import hash_image
from numpy.typing import NDArray
from PIL import Image

from benchmarks import pictures, report
from benchmarks.transformations import TRANSFORMATIONS, TURNS, Transformation

mpl.use("Agg")
from matplotlib import pyplot as plt

DISTANCES = (0, 2, 4, 6, 8, 10, 12)
#: Where the one ratio is taken: the distance that most tools recommend for near copies.
AT = 10
#: Hashes of one image: its own first, then those of its turned pictures where the method has any.
Hasher = Callable[[bytes], tuple[int, ...]]
HASHERS: dict[str, Hasher] = {
    "ours": lambda data: (hash_image(data).phash,),
    "ours, flips": lambda data: hash_image(data).symmetric,
    "imagehash": lambda data: (int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16),),
    "imagededup": lambda data: (imagededup_phash(data),),
}


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    pictures.add_options(parser, 300)
    options = parser.parse_args()
    images, what = pictures.load(options.photos, options.images)
    files = [pictures.jpeg(image, quality=92) for image in images]
    originals = {name: _stack(hasher, files) for name, hasher in HASHERS.items()}
    table = {name: measure(images, originals, transformation) for name, transformation in (TRANSFORMATIONS | TURNS).items()}
    summary = {name: {d: _mean_f1(table, name, d) for d in DISTANCES} for name in HASHERS}
    apart = {name: _apart(hashes) for name, hashes in originals.items()}
    report.OUT.mkdir(parents=True, exist_ok=True)
    (report.OUT / "dedup_quality.md").write_text(markdown(table))
    plot(table)
    print(markdown(table))
    ours, peer = summary["ours"][AT], summary["imagehash"][AT]
    more: dict[str, Any] = {"pictures": what, "mean_f1": summary, "unrelated_pairs_within": apart, "table": table}
    report.write("dedup_quality", ours, "ImageHash", version("ImageHash"), peer, f"mean F1 at distance {AT}", len(images), **more)


def measure(images: list[Image.Image], originals: dict[str, NDArray[np.uint64]], transformation: Transformation) -> dict[str, Any]:
    """Recall and precision of each method at each distance, for one transformation."""
    files = [pictures.jpeg(transformation(image), quality=92) for image in images]
    return {name: _scores(_distances(_stack(hasher, files), originals[name])) for name, hasher in HASHERS.items()}


def _stack(hasher: Hasher, files: list[bytes]) -> NDArray[np.uint64]:
    return np.array([hasher(data) for data in files], np.uint64)


def _distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(n, variants) and (m, variants) -> (n, m): the least over one's own hash and any of the other's, both ways."""
    one = np.bitwise_count(a[:, None, :1] ^ b[None, :, :]).min(axis=2)
    other = np.bitwise_count(a[:, None, :] ^ b[None, :, :1]).min(axis=2)
    return np.asarray(np.minimum(one, other))


def _scores(distances: NDArray[np.uint8]) -> dict[int, dict[str, float]]:
    """Rows: transformed photos, columns: originals; the diagonal is true."""
    scores = {}
    for distance in DISTANCES:
        hits = distances <= distance
        true = int(np.trace(hits))
        scores[distance] = {"recall": true / len(distances), "precision": true / max(1, int(hits.sum()))}
    return scores


def _mean_f1(table: dict[str, Any], method: str, distance: int) -> float:
    """Mean over the transformations that leave a picture the right way round."""
    values = []
    for name in TRANSFORMATIONS:
        score = table[name][method][distance]
        total = score["recall"] + score["precision"]
        values.append(2 * score["recall"] * score["precision"] / total if total else 0.0)
    return float(np.mean(values))


def _apart(hashes: NDArray[np.uint64]) -> dict[int, float]:
    """Share of pairs of different originals within each distance."""
    distances = _distances(hashes, hashes)[np.triu_indices(len(hashes), 1)]
    return {d: float((distances <= d).mean()) for d in DISTANCES}


def markdown(table: dict[str, Any]) -> str:
    """Recall / precision at distances 0, 4 and 10."""
    shown = (0, 4, 10)
    columns = [f"{method} ≤ {d}" for method in HASHERS for d in shown]
    lines = ["| transformation | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        cells = [f"{row[m][d]['recall']:.2f} / {row[m][d]['precision']:.2f}" for m in HASHERS for d in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(table: dict[str, Any]) -> None:
    """Recall by transformation at the distance of the ratio; precision beside."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 7), sharey=True, layout="constrained")
    rows = np.arange(len(table))
    for axis, measured in zip(axes, ("recall", "precision"), strict=True):
        for offset, method in enumerate(HASHERS):
            axis.barh(rows + 0.2 * offset, [row[method][AT][measured] for row in table.values()], height=0.2, label=method)
        axis.set_xlabel(f"{measured} at distance {AT}")
        axis.set_xlim(0, 1)
    axes[0].set_yticks(rows + 0.3, list(table))
    axes[0].invert_yaxis()
    axes[1].legend(loc="lower left")
    figure.savefig(report.OUT / "dedup_quality.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
