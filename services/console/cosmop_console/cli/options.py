"""Options that many subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option(help="Folder of the embedded system: data, logs, secrets, reports.")]
Endpoint = Annotated[str, typer.Option(help="host:port of a cluster's console; other services by COSMOP_<SERVICE>_ADDR. Empty: the embedded system of --home.")]
Dataset = Annotated[str, typer.Argument(help="<collection>/<version>, as `cosmop freeze` prints it.")]
OUT = Path("out")
