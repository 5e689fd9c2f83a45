"""Settings of the console; all others are ``cosmop_common.settings``."""

from __future__ import annotations

from pathlib import Path

from cosmop_common.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the console needs beyond the common settings."""

    console_data: Path = Path("data/console")
    """Folder of the read model (SQLite) and of cached thumbnails. Nothing in it is precious: delete it, and it is built anew."""
    console_hosts: str = ""
    """Public host names under which the console may be reached, separated by commas. Addresses, ``localhost``, names
    without a dot and names that public DNS cannot hold (``.svc``, ``.local``, ``.internal``, ``.localhost``) always work;
    any other name is refused, which stops DNS rebinding."""
