"""Dataset versions: immutable manifests of (image, label, split), as Parquet. Needs the extra ``cosmop-common[datasets]``."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from cosmop_common.errors import ChecksumError, InvalidInputError
from cosmop_common.names import dataset_key
from cosmop_common.records import DatasetRecord
from cosmop_common.store import Store


@dataclass(frozen=True)
class ManifestRow:
    """One image of a dataset version."""

    image: str
    label: str
    #: "train", "val", "test".
    split: str
    #: The near-duplicate group that is never parted: the smallest image id in it.
    group: str
    width: int
    height: int
    #: How many labellers agreed.
    labellers: int


_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("labellers", pa.int32()),
    ]
)


def write_manifest(rows: Sequence[ManifestRow]) -> bytes:
    """The manifest as Parquet; the same rows give the same bytes."""
    ordered = sorted(rows, key=lambda r: r.image)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(r) for r in ordered], schema=_SCHEMA), sink)
    return sink.getvalue()


def parse_manifest(data: bytes) -> list[ManifestRow]:
    """Rows of a manifest, by image id."""
    return [ManifestRow(**row) for row in pq.read_table(io.BytesIO(data)).to_pylist()]


def split_reference(dataset: str) -> tuple[str, str]:
    """``"<collection>/<version>"`` -> its parts. Raises ``InvalidInputError``."""
    collection, slash, version = dataset.partition("/")
    if not (collection and slash and version) or "/" in version:
        raise InvalidInputError(f"{dataset!r} names no dataset version: expected <collection>/<version>")
    return collection, version


async def load_dataset(store: Store, dataset: str) -> tuple[DatasetRecord, list[ManifestRow]]:
    """A dataset version by ``"<collection>/<version>"``, its manifest verified against its recorded sha256.

    Raises:
        NotFoundError: there is no such version.
        ChecksumError: the manifest is not the one that was frozen.
    """
    collection, version = split_reference(dataset)
    record = await DatasetRecord.load(store, dataset_key(collection, version, "dataset.json"))
    data = await store.get(dataset_key(collection, version, "manifest.parquet"))
    if hashlib.sha256(data).hexdigest() != record.manifest_sha256:
        key = dataset_key(collection, version, "manifest.parquet")
        raise ChecksumError(f"the manifest of {dataset} was changed after it was frozen: restore {key}, or freeze a new version")
    return record, parse_manifest(data)
