"""Features as files: cached in the object store by how they were made and by the images' content.

The reference set of a GAN run is so measured once, whatever number of snapshots follows; and an interrupted job goes on with
the chunk that it had not finished.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence

import numpy as np

from cosmop_fid_evaluator.networks import Extracted
from cosmop_fid_evaluator.protocol import digest


def features_key(extraction: str, contents: Sequence[str]) -> str:
    """``features/<protocol>/<images>.npz``.

    Args:
        extraction: see ``Protocol.extraction``.
        contents: sha256 of each image's bytes, in order.
    """
    return f"features/{digest(extraction)}/{hashlib.sha256(' '.join(contents).encode()).hexdigest()}.npz"


def dumps(extracted: Extracted) -> bytes:
    """As a ``.npz`` file."""
    sink = io.BytesIO()
    refused = json.dumps({str(k): v for k, v in extracted.refused.items()})
    np.savez(sink, features=extracted.features, kept=extracted.kept, refused=np.frombuffer(refused.encode(), np.uint8))
    return sink.getvalue()


def loads(data: bytes) -> Extracted:
    """From a ``.npz`` file; nothing in it is ever unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        refused = json.loads(file["refused"].tobytes())
        return Extracted(file["features"], file["kept"], {int(k): str(v) for k, v in refused.items()})
