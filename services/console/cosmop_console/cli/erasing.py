"""``cosmop erase``: images that must not be kept."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from cosmop_common.pb.cosmop.v1 import console_pb2

from cosmop_console.cli.remote import call
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say


async def erase(target: Target, collection: str, images: Sequence[str], reason: str, *, everywhere: bool) -> None:
    """Erases images, and names what is as it was and held them."""
    request = console_pb2.EraseRequest(collection=collection, images=images, reason=reason, requested_by=getpass.getuser(), everywhere=everywhere)
    async with target.services() as services:
        done = await call("console", services.console.Erase(request))
    for one in done.images:
        say(f"{one.image}  erased in {', '.join(one.collections)}")
        if one.used_by:
            say(f"  the bytes stay, {', '.join(one.used_by)} uses them: --everywhere erases them there as well")
        for holder in one.held_by:
            say(f"  held by {holder}, which stays as it is")
    for prefix in done.cleared:
        say(f"cleared {prefix}: made again when needed")
