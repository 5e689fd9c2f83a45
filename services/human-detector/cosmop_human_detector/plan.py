"""What one training does: everything that its outcome depends on, besides the images. No torch in here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Literal

from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_vision.networks import find_network
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.heads import HeadShape
from cosmop_human_detector.samples import Sample, split_spec
from cosmop_human_detector.settings import Settings

#: Counts changes of the recipe that change its outcome; part of a version's id.
RECIPE = 2
_MAX_IMAGES = 20_000
_BATCH = 32


class Plan(BaseModel):
    """One training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: tuple[str, ...] = Field(min_length=1)
    network: str = "efficientnet_lite0"
    #: Side in pixels at which images are seen: a multiple of the network's stride.
    size: int = Field(default=320, ge=32)
    #: The largest share of people that the threshold may miss.
    miss_rate: float = Field(default=0.05, gt=0, lt=1)
    #: Of the whole network, after its head; 0: the head alone.
    epochs: int = Field(default=0, ge=0)
    seed: int = 0
    #: At most so many of each kind.
    max_images: int = Field(default=_MAX_IMAGES, ge=1)
    #: Images in a step, over all processes.
    batch: int = Field(default=_BATCH, ge=1)
    #: Empty: bf16 on CUDA, fp32 elsewhere.
    precision: Literal["", "fp32", "bf16"] = ""
    #: Random weights instead of the published ones.
    from_scratch: bool = False

    @field_validator("data")
    @classmethod
    def _names_data(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for spec in value:
            try:
                split_spec(spec)
            except TrainingDataError as error:
                raise ValueError(str(error)) from error
        return value

    @classmethod
    def of(cls, job: runs_pb2.TrainHumanDetectorJob, settings: Settings) -> Plan:
        """The plan of a job, the service's settings filled in.

        Raises:
            TrainingDataError: the job cannot be done as it stands; the message names the field and the cure.
            UnknownNetworkError: no network has this name.
        """
        try:
            plan = cls(
                data=tuple(job.data),
                network=job.network or settings.human_detector_network,
                size=job.size or settings.human_detector_size,
                miss_rate=job.miss_rate or settings.human_detector_miss_rate or 0.05,
                epochs=job.epochs,
                seed=job.seed,
                max_images=job.max_images or _MAX_IMAGES,
                batch=job.batch or _BATCH,
                precision=job.precision,
                from_scratch=job.from_scratch,
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][:1])
            raise TrainingDataError(f"train.{where}: {first['msg'].removeprefix('Value error, ')} (given: {first['input']!r})") from error
        stride = find_network(plan.network).stride
        if plan.size % stride:
            raise TrainingDataError(f"train.size is {plan.size}: {plan.network} sees sides that are multiples of {stride}")
        return plan

    @property
    def shape(self) -> HeadShape:
        """The shape of the head."""
        return HeadShape(network=self.network, size=self.size)

    def version(self, samples: Iterable[Sample]) -> str:
        """The version of the model that this training makes: the same images, labels and settings name the same version.

        Where the images lie does not matter; how fast they are worked through does not either.
        """
        told = self.model_dump(mode="json", exclude={"data", "max_images"}) | {"recipe": RECIPE}
        told["images"] = sorted(f"{s.identity}:{int(s.people)}" for s in samples)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
