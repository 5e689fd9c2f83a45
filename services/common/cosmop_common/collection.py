"""A collection: one dataset project, as its YAML file says it. Every setting of every stage that shapes the data is here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cosmop_common.errors import InvalidInputError

SLUG = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")


class CollectionError(InvalidInputError):
    """A collection file that cannot be used; the message names the file, the key and the cure."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ScrapeSettings(_Section):
    """Where images come from, and which are too poor to keep."""

    source: str = "wikimedia"
    """google, x, openverse, wikimedia, urls, folder, web."""
    keywords: tuple[str, ...] = ()
    """What is searched for: one search each."""
    options: dict[str, str] = {}
    """Settings of the source, as the scraper's README names them."""
    max_images: int = Field(default=0, ge=0)
    """Budget per run; 0 is none."""
    max_bytes: int = Field(default=30 << 20, gt=0)
    """Largest image in bytes."""
    max_pixels: int = Field(default=100_000_000, gt=0)
    """Largest image in pixels, counted before it is decoded."""
    min_side: int = Field(default=64, ge=1)
    """Shortest side in pixels."""
    max_aspect: float = Field(default=8.0, ge=1)
    """Longest side over shortest."""
    formats: tuple[Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"], ...] = (
        "jpeg", "png", "webp", "gif", "bmp", "tiff", "avif",
    )  # fmt: skip
    """Image formats that are taken."""
    respect_robots: bool = True
    """robots.txt, X-Robots-Tag and page-level noai/noimageai. False is noted in every sighting."""
    keep_location: bool = False
    """Whether facts say where a photo was taken, by its EXIF GPS position. It may be somebody's home."""
    allow_private_addresses: bool = False
    """Lets the scraper fetch from this machine and its network: for demonstrations and tests only."""
    requests_per_second: float = Field(default=2.0, gt=0)
    """Rate towards one host."""
    connections_per_host: int = Field(default=4, ge=1)
    """Downloads from one host at once."""


class DedupSettings(_Section):
    """When two images count as copies."""

    distance: int = Field(default=0, ge=0, le=32)
    """Hamming distance between pHashes up to which two images are duplicates; 0 is the paper."""
    flips: bool = False
    """Whether flips and rotations by 90 degrees count as copies."""
    grey_distance: int = Field(default=0, ge=0, le=32)
    """Pairs farther apart than ``distance`` and up to this are copies where a network finds them alike; 0 asks it nothing."""
    grey_similarity: float = Field(default=0.8, gt=0, le=1)
    """Cosine of two images' features from which on a pair of the grey zone counts as copies."""


class HumanDetectorSettings(_Section):
    """Which images show people."""

    model: str = ""
    """``name/version`` of a registered model; empty: the active one."""
    grey_band: Literal["decide", "ask"] = "decide"
    """What becomes of scores that the model is unsure of: ``decide`` by the threshold, or ``ask`` a person: they count as people and
    come first in the labelling queue."""


class DatasetSettings(_Section):
    """How labelled images are split."""

    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the near-duplicate groups that are only measured on."""
    val_share: float = Field(default=0.1, ge=0, lt=1)
    """Share that thresholds and calibration are chosen on."""
    group_distance: int = Field(default=10, ge=0, le=32)
    """Images within this distance are never parted between splits."""

    @model_validator(mode="after")
    def _shares_leave_a_train_split(self) -> Self:
        if self.test_share + self.val_share >= 1:
            raise ValueError("test_share + val_share must leave something to train on: keep their sum under 1")
        return self


class GanSettings(_Section):
    """StyleGAN2-ADA."""

    label: str = ""
    """The class to learn; empty: the positive class."""
    resolution: Literal[16, 32, 64, 128, 256, 512, 1024] = 256
    """Side of the images in pixels."""
    preset: Literal["tiny", "auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"] = "auto"
    """Networks and constants, as the gan-trainer's README lists them."""
    kimg: float = Field(default=10_000, gt=0)
    """Thousands of real images to show."""
    snapshots: int = Field(default=50, ge=1)
    """Evenly spaced; each is evaluated, and the best is the run's result."""
    samples: int = Field(default=10_000, ge=16)
    """Samples stored with each snapshot, for its evaluation."""
    synthetic: int = Field(default=2276, ge=0)
    """Synthetic images to make with the best snapshot."""
    truncation: float = Field(default=1.0, gt=0, le=1)
    """psi: 1 is none; smaller trades variety for quality."""
    max_seconds: float = Field(default=0, ge=0)
    """Wall-clock budget; 0 is none."""
    seed: int = 0
    """Of all that is random."""
    options: dict[str, str] = {}
    """Further settings, as the service\'s README names them."""


class EvaluationSettings(_Section):
    """How snapshots are judged."""

    protocol: str = "fid"
    """fid, fd-efficientnet_lite0."""
    measures: tuple[str, ...] = ("kid", "prdc")
    """Companions: kid, prdc, copies."""
    max_images: int = Field(default=0, ge=0)
    """At most so many images of each set; 0: all."""


class ClassifierSettings(_Section):
    """The two classifiers."""

    network: str = "resnet50"
    """A network of cosmop_vision, by name."""
    max_seconds: float = Field(default=0, ge=0)
    """Wall-clock budget; 0 is none."""
    seed: int = 0
    """Of all that is random."""
    options: dict[str, str] = {}
    """Further settings, as the service\'s README names them."""


class Collection(_Section):
    """One dataset project. Raises ``CollectionError`` from ``parse`` and ``load``."""

    name: str
    """A slug: lower-case letters, digits, dashes."""
    title: str = ""
    """What people read."""
    concept: str = ""
    """One sentence: what a positive image shows."""
    criteria: tuple[str, ...] = ()
    """At least one must hold for a positive image; shown to labellers."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """Class names; slugs."""
    positive: str
    """The class that shows the concept."""
    scrape: ScrapeSettings = ScrapeSettings()
    dedup: DedupSettings = DedupSettings()
    human_detector: HumanDetectorSettings = HumanDetectorSettings()
    dataset: DatasetSettings = DatasetSettings()
    gan: GanSettings = GanSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    classifier: ClassifierSettings = ClassifierSettings()

    @field_validator("name")
    @classmethod
    def _name_is_a_slug(cls, value: str) -> str:
        if not SLUG.match(value):
            raise ValueError("must be a slug: lower-case letters, digits and dashes, at most 63")
        return value

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        for name in self.classes:
            if not re.match(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", name):
                raise ValueError(f"class {name!r}: use letters, digits, dashes and underscores")
        if self.positive not in self.classes:
            raise ValueError(f"positive is {self.positive!r}: must be one of classes ({', '.join(self.classes)})")
        if self.gan.label and self.gan.label not in self.classes:
            raise ValueError(f"gan.label is {self.gan.label!r}: must be one of classes, or empty for the positive one")
        return self

    @classmethod
    def parse(cls, text: str, *, origin: str = "collection") -> Collection:
        """Reads a collection from YAML (or JSON) text; ``origin`` names it in errors."""
        try:
            data: Any = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CollectionError(f"{origin}: not YAML: {error}") from error
        if not isinstance(data, dict):
            raise CollectionError(f"{origin}: expected a mapping of settings, found {type(data).__name__}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise CollectionError("\n".join(f"{origin}: {_explain(e)}" for e in error.errors())) from error

    @classmethod
    def load(cls, path: Path) -> Collection:
        """Reads a collection file."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CollectionError(f"{path}: cannot be read: {error}") from error
        return cls.parse(text, origin=str(path))

    def to_json(self) -> str:
        """The collection as JSON, defaults filled in: what the key-value bucket holds."""
        return self.model_dump_json()


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "collection"
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}: {_suggest(error['loc'])}"
    if error["type"] == "missing":
        return f"key {where!r} is missing"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def _suggest(loc: tuple[Any, ...]) -> str:
    """The keys that would have been right at this place."""
    model: type[BaseModel] = Collection
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return "see docs/collections.md"
        model = annotation
    return f"known keys are {', '.join(sorted(model.model_fields))}"
