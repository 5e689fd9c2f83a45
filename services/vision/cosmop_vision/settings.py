"""Where weights come from, where they are kept, and how many threads inference may take."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class VisionSettings(BaseSettings):
    """Read from the environment as ``COSMOP_...``."""

    model_config = SettingsConfigDict(env_prefix="COSMOP_", extra="ignore")

    weights_dir: Path | None = None
    """A folder that holds files of weights under their published names; looked into before anything is downloaded."""
    weights_files: dict[str, str] = {}
    """Weights of one's own, by network: ``{"resnet50": "/weights/mine.safetensors#<sha256>"}`` (or a ``.pth`` of plain tensors)."""
    weights_mirror: str = ""
    """Base URL that serves those files instead of their publisher."""
    weights_seconds: float = 60.0
    """How long a download may stand still before it is given up."""
    cache_dir: Path = Path("~/.cache/cosmop")
    """Downloaded weights and exported ONNX files; safe to delete."""
    networks_dir: Path | None = None
    """A folder of networks that were written as ONNX before, looked into before one is exported: an image without torch has one."""
    inference_threads: int = Field(default=0, ge=0)
    """Threads of one inference; 0: all cores of the process."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: CUDA where there is one."""

    @property
    def cache(self) -> Path:
        """The cache folder, ``~`` expanded, made where there is none."""
        folder = self.cache_dir.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
