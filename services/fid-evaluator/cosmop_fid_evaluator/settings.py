"""Settings of the evaluator; weights, cache and device are ``cosmop_vision.settings``, all others ``cosmop_common.settings``."""

from __future__ import annotations

from cosmop_common.settings import ServiceSettings
from pydantic import Field

SERVICE = "fid-evaluator"


class Settings(ServiceSettings):
    """What the evaluator needs beyond the common settings."""

    features_chunk: int = Field(default=512, ge=16)
    """Images whose features are cached as one object, and computed by one worker: the most that an interrupted job computes again."""

    features_shared_from: int = Field(default=2048, ge=1)
    """Images of a set from which on its chunks are offered as jobs to all workers of this service."""
