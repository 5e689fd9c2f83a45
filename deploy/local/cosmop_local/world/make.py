"""The drawn world: a folder of drawings with known truth, for a newcomer's first run and for tests.

Copies, blanks and damaged files are planted among the drawings; ``labels.csv`` says of each what it is. Everything
follows from the seed: the same seed and count give the same bytes (with the same versions of Pillow and NumPy).
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from cosmop_common.errors import InvalidInputError
from PIL import Image

from cosmop_local.world.collection import MAX_BYTES, write_collection
from cosmop_local.world.phash import phash
from cosmop_local.world.scene import Kind, draw

#: Raised when the drawings change: a world of another version is made anew.
VERSION = 2
#: Drawings that are no planted copies differ by more than this in their hashes...
APART = 10
#: ...and a planted near-copy by at most this from its original.
NEAR = 3
_MIN_COUNT = 60


class WorldSizeError(InvalidInputError):
    """Too few drawings to plant everything among them."""


@dataclass(frozen=True)
class Entry:
    """One line of ``labels.csv``."""

    file: str
    label: str
    concept: str
    truth: str
    copy_of: str = ""


@dataclass
class _Maker:
    """Writes files and remembers their lines and hashes."""

    folder: Path
    seed: int
    entries: list[Entry] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    drawn: int = 0

    def scene(self, kind: Kind, *, apart: bool = True) -> Image.Image:
        """The next drawing that resembles none before it."""
        while True:
            self.drawn += 1
            image = draw((self.seed, self.drawn), kind)
            code = phash(image)
            if not apart or not self.hashes or _nearest(code, self.hashes) > APART:
                self.hashes.append(code)
                return image

    def write(self, data: bytes, suffix: str, entry: Entry) -> None:
        """Stores a file; its name tells nothing of what it is."""
        (self.folder / entry.file).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / entry.file).write_bytes(data)
        assert entry.file.endswith(suffix)
        self.entries.append(entry)


def make_world(directory: Path, seed: int = 0, count: int = 360) -> None:
    """Makes the world in a folder, once: ``photos/`` with ``labels.csv``, ``fit/``, ``collection.yaml``.

    Args:
        directory: made anew unless it holds the same world already.
        seed: of all that is random.
        count: files under ``photos/``, at least 60. ``fit/`` gets about half as many others.

    Raises:
        WorldSizeError: ``count`` is too small.
    """
    if count < _MIN_COUNT:
        raise WorldSizeError(f"a world of {count} drawings is too small to plant copies and damage in: ask for {_MIN_COUNT} or more")
    stamp = {"version": VERSION, "seed": seed, "count": count}
    marker = directory / "world.json"
    if marker.is_file() and json.loads(marker.read_text()) == stamp:
        return
    draft = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "photos").mkdir(parents=True)
    rng = np.random.default_rng((seed, count))
    maker = _Maker(draft / "photos", seed)
    _draw_all(maker, rng, count)
    _write_labels(draft / "photos" / "labels.csv", sorted(maker.entries, key=lambda e: e.file), ("file", "label", "concept", "truth", "copy_of"))
    _draw_fit(draft / "fit", seed, max(40, count // 2))
    write_collection(draft / "collection.yaml")
    (draft / "world.json").write_text(json.dumps(stamp))
    shutil.rmtree(directory, ignore_errors=True)
    draft.rename(directory)


def _draw_all(maker: _Maker, rng: np.random.Generator, count: int) -> None:
    exact, near, blank = count // 25, count // 12, max(2, count // 60)
    originals = count - exact - near - blank - 3
    names = _names(rng, count)
    kinds = _kinds(rng, originals)
    for kind in kinds:
        image = maker.scene(kind)
        suffix = ".png" if rng.random() < 0.08 else ".jpg"  # noqa: PLR2004
        concept = "" if kind == "none" or rng.random() < 0.05 else kind  # noqa: PLR2004 - some are left for a person to label
        entry = Entry(next(names) + suffix, "no_human" if kind == "none" else "human", concept, "keep")
        maker.write(_encode(image, suffix, int(rng.integers(78, 95))), suffix, entry)
    chosen = rng.permutation(originals)
    kept = list(maker.entries)
    for index in chosen[:exact]:
        source = kept[index]
        suffix = Path(source.file).suffix
        maker.write((maker.folder / source.file).read_bytes(), suffix, Entry(next(names) + suffix, source.label, source.concept, "exact_copy", source.file))
    for index in chosen[exact : exact + near]:
        source = kept[index]
        data = _near_copy((maker.folder / source.file).read_bytes(), maker.hashes[index], rng)
        maker.write(data, ".jpg", Entry(next(names) + ".jpg", source.label, source.concept, "near_copy", source.file))
    _plant_damage(maker, rng, names, blank)


def _kinds(rng: np.random.Generator, count: int) -> list[Kind]:
    """Three tenths at a border, three tenths elsewhere, four tenths without people; shuffled."""
    third = round(count * 0.3)
    shares: tuple[tuple[Kind, int], ...] = (("border", third), ("other", third), ("none", count - 2 * third))
    kinds = [kind for kind, times in shares for _ in range(times)]
    return [kinds[i] for i in rng.permutation(count)]


def _names(rng: np.random.Generator, count: int) -> Iterator[str]:
    """Names without order or meaning."""
    yield from (f"{number:06x}" for number in rng.permutation(1 << 20)[:count])


def _encode(image: Image.Image, suffix: str, quality: int) -> bytes:
    out = io.BytesIO()
    if suffix == ".png":
        # Few colours keep a PNG with grain under the collection's cap.
        image.quantize(96, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _near_copy(data: bytes, code: int, rng: np.random.Generator) -> bytes:
    """The same picture compressed harder, scaled, or both; as close as ``NEAR``."""
    for attempt in range(8):
        image = Image.open(io.BytesIO(data)).convert("RGB")
        scale = float(rng.uniform(0.55, 0.9)) if attempt < 6 and rng.random() < 0.7 else 1.0  # noqa: PLR2004
        if scale != 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        copy = _encode(image, ".jpg", int(rng.integers(35, 75)))
        if _nearest(phash(Image.open(io.BytesIO(copy))), [code]) <= NEAR:
            return copy
    return _encode(Image.open(io.BytesIO(data)).convert("RGB"), ".jpg", 70)


def _plant_damage(maker: _Maker, rng: np.random.Generator, names: Iterator[str], blank: int) -> None:
    for grey in rng.permutation([255, 0, 238, 128, 250, 30, 200, 90] * blank)[:blank]:
        # Sizes differ, so that no two blank pages are the same bytes.
        page = Image.new("RGB", (320 + int(rng.integers(200)), 240 + int(rng.integers(200))), (int(grey),) * 3)
        maker.write(_encode(page, ".jpg", 85), ".jpg", Entry(next(names) + ".jpg", "no_human", "", "blank"))
    whole = _encode(maker.scene("none"), ".jpg", 85)
    maker.write(whole[: len(whole) // 2], ".jpg", Entry(next(names) + ".jpg", "", "", "corrupt"))
    html = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body><h1>Not found</h1></body></html>\n"
    maker.write(html, ".jpg", Entry(next(names) + ".jpg", "", "", "corrupt"))
    large = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (640, 800, 3), np.uint8)).save(large, "PNG", compress_level=1)
    assert large.tell() > MAX_BYTES
    maker.write(large.getvalue(), ".png", Entry(next(names) + ".png", "", "", "oversized"))


def _draw_fit(folder: Path, seed: int, count: int) -> None:
    """Other drawings, to fit the human filter's head on: none of them is in ``photos/``."""
    maker = _Maker(folder, seed + 1_000_003)
    rng = np.random.default_rng((seed, count, 1))
    names = _names(rng, count)
    kinds: list[Kind] = ["none", "border", "none", "other"]
    for i in range(count):
        image = maker.scene(kinds[i % 4], apart=False)
        maker.write(_encode(image, ".jpg", 88), ".jpg", Entry(next(names) + ".jpg", "no_human" if i % 2 == 0 else "human", "", "keep"))
    _write_labels(folder / "labels.csv", maker.entries, ("file", "label"))


def _write_labels(path: Path, entries: list[Entry], columns: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for entry in entries:
            writer.writerow(asdict(entry))


def _nearest(code: int, codes: list[int]) -> int:
    return int(np.bitwise_count(np.array(codes, np.uint64) ^ np.uint64(code)).min())
