"""``cosmop export``: a dataset version on this machine."""

from __future__ import annotations

from pathlib import Path

from cosmop_common.store import Store

from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say
from cosmop_console.dataset_export import export_dataset


async def export(target: Target, dataset: str, folder: Path, *, blur_faces: bool) -> None:
    """Writes a dataset version into a folder, and says what was done to its images."""
    store = Store(target.connection)
    try:
        done = await export_dataset(store, dataset, folder, blur_faces=blur_faces)
    finally:
        store.close()
    say(f"{done.dataset}: {done.images} images in {folder}" + (f", {len(done.gone)} erased since" if done.gone else ""))
    if done.faces_blurred:
        say(f"  {done.faces} faces blurred in {len(done.blurred)} images ({folder / 'export.json'} names them); look them through: a detector misses some")
