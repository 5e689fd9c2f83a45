"""Settings of the classifier, on top of what every service has."""

from __future__ import annotations

from typing import Literal, Self

from cosmop_common.errors import InvalidInputError
from cosmop_common.settings import ServiceSettings
from pydantic import Field, model_validator


class QueueSettingsError(InvalidInputError):
    """Bounds that contradict each other."""


class Settings(ServiceSettings):
    """Read from the environment as ``COSMOP_...``. Those of networks and devices are ``cosmop_vision.settings``."""

    max_batch: int = Field(default=16, ge=1)
    """Largest batch that the network runs at once."""
    max_wait_ms: float = Field(default=2.0, ge=0)
    """How long the first image of a batch waits for others that are on their way."""
    max_pending: int = Field(default=256, ge=1)
    """Images between admission and answer, for each network; beyond it RESOURCE_EXHAUSTED."""
    decode_threads: int = Field(default=0, ge=0)
    """Threads that decode and resize images; 0: as many as the process has cores."""
    stream_window: int = Field(default=32, ge=1)
    """Images of one ClassifyStream in work at once."""
    max_request_images: int = Field(default=128, ge=1)
    """Images in one ModelInfer."""
    pinned_models: int = Field(default=4, ge=1)
    """Versions that are not active, kept loaded because somebody asked for them by version."""

    review: Literal["off", "known", "all"] = "known"
    """Whose uncertain images go before people: nobody's; those that the collection holds; all, callers' images being stored for it."""
    int8: bool = False
    """Serve versions in whole numbers, about twice as fast, where the accuracy gate lets them."""
    int8_agreement: float = Field(default=0.98, ge=0, le=1)
    """The gate: share of validation and test images on which both forms must give the same verdict."""
    int8_loss: float = Field(default=0.01, ge=0, le=1)
    """The gate: accuracy that may be lost."""
    explain_images: int = Field(default=2000, ge=1)
    """Training images that Explain compares with, of a model that brings no bank of its own."""

    @model_validator(mode="after")
    def _a_request_fits_the_queue(self) -> Self:
        if self.max_request_images > self.max_pending:
            msg = f"COSMOP_MAX_REQUEST_IMAGES is {self.max_request_images}, COSMOP_MAX_PENDING is {self.max_pending}: a full request would never be taken"
            raise QueueSettingsError(msg)
        return self
