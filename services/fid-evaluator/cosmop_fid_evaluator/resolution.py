"""At which resolution two sets are compared where nobody says: the generator's own.

A generator of 32 px learned from photos cropped and reduced to 32 px. Measured against the photos themselves its distance would
be that of a blur, the same for every snapshot.
"""

from __future__ import annotations

from cosmop_common.errors import NotFoundError
from cosmop_common.names import run_key
from cosmop_common.records import SnapshotRecord, SyntheticRecord
from cosmop_common.store import Store


async def resolution_of(store: Store, candidate: str) -> int:
    """Side in pixels that a generated set was made at; 0 where the set was not generated, or its snapshot is gone."""
    kind, _, rest = candidate.partition(":")
    try:
        if kind == "samples":
            run, _, shown = rest.partition("/")
        elif kind == "synthetic":
            synthetic = await SyntheticRecord.load(store, run_key(rest, "synthetic.json"))
            run, shown = synthetic.gan_run, str(round(synthetic.kimg * 1000))
        else:
            return 0
        return (await SnapshotRecord.load(store, run_key(run, f"snapshots/{int(shown):09d}/snapshot.json"))).resolution
    except NotFoundError:
        return 0
