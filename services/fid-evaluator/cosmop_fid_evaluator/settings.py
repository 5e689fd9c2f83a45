"""Settings of the evaluator; weights, cache and device are ``cosmop_vision.settings``, all others ``cosmop_common.settings``."""

from __future__ import annotations

from cosmop_common.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """What the evaluator needs beyond the common settings."""

    features_chunk: int = Field(default=512, ge=16)
    """Images whose features are cached as one object: the most that an interrupted job computes again."""
