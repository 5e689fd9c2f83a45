"""Which copies does each hash find, and what does it take for a copy that is none?

``python -m benchmarks.dedup_quality [--grey]``. Each photo is transformed, stored as JPEG, hashed, and compared with the hashes of all originals.
Recall: transformed photos within the distance of their own original. Precision: hits that are the own original, among all hits. ImageHash is asked
itself; imagededup through our compatibility mode, which is tested to be bit-exact with it. With ``--grey`` our grey zone is measured as well: pairs
beyond the distance, and up to 20 bits, count where efficientnet-lite0 finds them alike (cosine >= 0.8); each picture then costs 20 ms more.
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
from cosmop_dedup.embedder import embed
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
#: The grey zone: up to this distance, from this cosine on.
GREY_DISTANCE, GREY_SIMILARITY = 20, 0.8
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
    parser.add_argument("--grey", action="store_true", help="measure the grey zone as well")
    options = parser.parse_args()
    images, what = pictures.load(options.photos, options.images)
    files = [pictures.jpeg(image, quality=92) for image in images]
    originals = {name: _stack(hasher, files) for name, hasher in HASHERS.items()}
    seen = _embeddings(files) if options.grey else None
    table = {name: measure(images, originals, seen, transformation) for name, transformation in (TRANSFORMATIONS | TURNS).items()}
    summary = {name: {d: _mean_f1(table, name, d) for d in DISTANCES} for name in table["jpeg 90"]}
    apart = {name: _apart(hashes) for name, hashes in originals.items()}
    report.OUT.mkdir(parents=True, exist_ok=True)
    (report.OUT / "dedup_quality.md").write_text(markdown(table))
    plot(table)
    print(markdown(table))
    ours, peer = summary["ours"][AT], summary["imagehash"][AT]
    more: dict[str, Any] = {"pictures": what, "mean_f1": summary, "unrelated_pairs_within": apart, "table": table}
    report.write("dedup_quality", ours, "ImageHash", version("ImageHash"), peer, f"mean F1 at distance {AT}", len(images), **more)


def measure(images: list[Image.Image], originals: dict[str, NDArray[np.uint64]], seen: NDArray[np.float64] | None, change: Transformation) -> dict[str, Any]:
    """Recall and precision of each method at each distance, for one transformation.

    Args:
        seen: embeddings of the originals, where the grey zone is measured.
    """
    files = [pictures.jpeg(change(image), quality=92) for image in images]
    apart = {name: _distances(_stack(hasher, files), originals[name]) for name, hasher in HASHERS.items()}
    scores = {name: {d: _score(bits <= d) for d in DISTANCES} for name, bits in apart.items()}
    if seen is not None:
        bits = apart["ours"]
        alike = (bits <= GREY_DISTANCE) & (_embeddings(files) @ seen.T >= GREY_SIMILARITY)
        scores["ours, grey zone"] = {d: _score((bits <= d) | alike) for d in DISTANCES}
    return scores


def _embeddings(files: list[bytes]) -> NDArray[np.float64]:
    """Unit vectors, as facts hold them: shape (n, features)."""
    vectors = np.stack([np.frombuffer(embed(data), np.int8) for data in files]).astype(np.float64)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _stack(hasher: Hasher, files: list[bytes]) -> NDArray[np.uint64]:
    return np.array([hasher(data) for data in files], np.uint64)


def _distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(n, variants) and (m, variants) -> (n, m): the least over one's own hash and any of the other's, both ways."""
    one = np.bitwise_count(a[:, None, :1] ^ b[None, :, :]).min(axis=2)
    other = np.bitwise_count(a[:, None, :] ^ b[None, :, :1]).min(axis=2)
    return np.asarray(np.minimum(one, other))


def _score(hits: NDArray[np.bool_]) -> dict[str, float | None]:
    """Rows: transformed photos, columns: originals; the diagonal is true. Without a hit there is no precision."""
    true, all_hits = int(np.trace(hits)), int(hits.sum())
    return {"recall": true / len(hits), "precision": true / all_hits if all_hits else None, "hits": all_hits, "true": true}


def _mean_f1(table: dict[str, Any], method: str, distance: int) -> float:
    """Mean over the transformations that leave a picture the right way round; 0 where nothing was found."""
    scores = [table[name][method][distance] for name in TRANSFORMATIONS]
    return float(np.mean([2 * s["recall"] * (s["precision"] or 0.0) / max(1e-9, s["recall"] + (s["precision"] or 0.0)) for s in scores]))


def _apart(hashes: NDArray[np.uint64]) -> dict[int, float]:
    """Share of pairs of different originals within each distance."""
    distances = _distances(hashes, hashes)[np.triu_indices(len(hashes), 1)]
    return {d: float((distances <= d).mean()) for d in DISTANCES}


def markdown(table: dict[str, Any]) -> str:
    """Recall / precision at distances 0, 4 and 10."""
    shown = (0, 4, 10)
    methods = list(table["jpeg 90"])
    columns = [f"{method} ≤ {d}" for method in methods for d in shown]
    lines = ["| transformation | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in table.items():
        cells = [f"{row[m][d]['recall']:.2f} / " + (f"{p:.2f}" if (p := row[m][d]["precision"]) is not None else "-") for m in methods for d in shown]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(table: dict[str, Any]) -> None:
    """Recall by transformation at the distance of the ratio as dots, one row each; beside it, recall and precision over all distances."""
    methods = list(table["jpeg 90"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 8), width_ratios=(1.4, 1), layout="constrained")
    for number, (method, marker) in enumerate(zip(methods, "osD^v", strict=False)):
        # A little apart, so that equal values do not hide each other.
        rows = np.arange(len(table)) + 0.16 * (number - (len(methods) - 1) / 2)
        left.plot([row[method][AT]["recall"] for row in table.values()], rows, marker, markersize=5, label=method, color=f"C{number}")
        upright = [table[name][method] for name in TRANSFORMATIONS]
        recall = [float(np.mean([row[d]["recall"] for row in upright])) for d in DISTANCES]
        precision = [sum(row[d]["true"] for row in upright) / max(1, sum(row[d]["hits"] for row in upright)) for d in DISTANCES]
        right.plot(recall, precision, f"{marker}-", markersize=5, color=f"C{number}", label=method)
    left.set_yticks(np.arange(len(table)), list(table))
    left.invert_yaxis()
    left.grid(axis="both", alpha=0.25)
    left.set_xlabel(f"recall at distance {AT}")
    left.set_xlim(-0.03, 1.03)
    right.set_xlabel(f"mean recall, at distances {', '.join(map(str, DISTANCES))}")
    right.set_ylabel("precision of all hits")
    right.grid(alpha=0.25)
    right.legend(loc="lower left")
    for kind in ("png", "svg"):
        figure.savefig(report.OUT / f"dedup_quality.{kind}", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
