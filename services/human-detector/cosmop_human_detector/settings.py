"""Settings of the human detector, read from the environment as ``COSMOP_...``."""

from __future__ import annotations

from cosmop_common.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """On top of what every service takes."""

    workers: int = Field(default=24, ge=1)
    """Images in flight at once; they share batches, so that it should exceed the batch."""
    batch: int = Field(default=16, ge=1)
    """Images that the network sees at once, at most."""
    batch_milliseconds: float = Field(default=20.0, ge=0)
    """How long the first image of a batch waits for others."""
    human_detector: str = "head"
    """What screens where no model is active: ``head`` (the shipped one), ``onnx:<path>`` (a NanoDet detector with COCO's classes),
    ``torchvision:<name>`` (one of its COCO detectors, its weights fetched) or ``auto`` (such a detector where its weights can be had,
    otherwise the head; the log says which)."""
    human_detector_sha256: str = ""
    """The sha256 that the file of ``onnx:<path>`` must have; empty: it is not checked."""
    human_detector_network: str = "efficientnet_lite0"
    """Network of newly trained heads, where the job names none."""
    human_detector_size: int = Field(default=320, ge=64)
    """Side in pixels at which newly trained heads see images; a multiple of 32. Larger finds smaller people and is slower."""
    human_detector_miss_rate: float = Field(default=0.05, ge=0, lt=1)
    """The largest share of people that a new threshold may miss, where the job states none."""
