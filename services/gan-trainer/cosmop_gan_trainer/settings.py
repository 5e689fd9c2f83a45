"""Settings of the gan-trainer service."""

from __future__ import annotations

from cosmop_common.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """All settings: ``COSMOP_`` and the name in capitals."""

    gan_device: str = "auto"
    """``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``."""
    torch_threads: int = Field(default=0, ge=0)
    """CPU threads of a job process; 0 leaves torch its own choice."""
