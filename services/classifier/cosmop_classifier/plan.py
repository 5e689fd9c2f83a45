"""What a training job asks for, checked, with every choice made: nothing later depends on how fast the machine happens to be.

A time budget is turned into a number of augmented copies and epochs beforehand, from nominal speeds; so the same job makes
the same model (and the same version) everywhere. The clock is only the last resort (``TrainingPlan.max_seconds``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cosmop_common.datasets import split_reference
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_vision.networks import find_network

from cosmop_classifier.registry import BINARY, ONE_CLASS
from cosmop_classifier.thresholds import Goal

#: The paper's network.
DEFAULT_NETWORK = "resnet50"
#: Images a second through a frozen network on two CPU cores, decoding included; and the share of it that training reaches.
_NOMINAL_SPEED = {"efficientnet_lite0": 40.0, "resnet50": 12.0, "efficientnet_b0": 25.0}
_SLOWEST = 6.0
_TRAINING_SHARE = 0.2
_CUDA_FACTOR = 40.0
_MAX_COPIES = 8
_EPOCHS = 12
#: Of the budget: what features may take, and what is left for the rest.
FEATURE_SHARE = 0.6
_WORDS = {int: "a whole number", float: "a number", str: "a text"}
METHODS = ("knn", "mahalanobis", "logistic", "patches", "svm")
_LEAST = {
    "copies": -1,
    "epochs": -1,
    "synthetic_limit": 0,
    "neighbours": 1,
    "paper_images": 4,
    "svm_images": 4,
    "background_images": 4,
    "patch_memory": 1,
}


class JobError(InvalidInputError):
    """A training job that asks for what cannot be; the message names the field and the cure."""


@dataclass(frozen=True)
class Options:
    """``TrainClassifierJob.options``, by name, as text in the job."""

    #: Binary: what the threshold is chosen for on the validation split: f1, accuracy, balanced_accuracy, recall=0.95, precision=0.9.
    goal: str = "f1"
    #: Binary: the share of each class that may fall on the wrong side outside the band in which a person looks.
    alpha: float = 0.1
    #: Binary: "paper" (rotation, shifts, zoom, shear, flip) or "none".
    augmentation: str = "paper"
    #: Binary: augmented copies of each training image; -1: as many as the budget allows, at most 8.
    copies: int = -1
    #: Binary: epochs of fine-tuning the network; 0: the network stays frozen; -1: as the budget allows.
    epochs: int = -1
    #: Binary: fine-tuning in "bf16" or "fp32"; "auto": bf16 on CUDA.
    precision: str = "auto"
    #: Binary: train on the real images of the train split ("yes"), or on the synthetic set and the real negatives only ("no").
    real: str = "yes"
    #: At most so many synthetic images; 0: all.
    synthetic_limit: int = 0
    #: One-class: which method is registered as the collection's: knn, mahalanobis, logistic, patches, svm (the paper's).
    method: str = "knn"
    #: One-class, knn: neighbours, at most; of few images a tenth.
    neighbours: int = 10
    #: One-class, logistic: the background: "screened" (the collection's images without people), or an image set (``imagesets``).
    background: str = "screened"
    #: One-class, logistic: at most so many background images, chosen by hash.
    background_images: int = 1000
    #: One-class, patches: bound of the memory for patches, MiB.
    patch_memory: int = 256
    #: One-class: the share of positive training images that the threshold keeps.
    keep: float = 0.9
    #: One-class, the paper's SVM: nu.
    nu: float = 0.5
    #: One-class: whether the paper's preset is trained beside ("yes", "no").
    paper: str = "yes"
    #: One-class, the paper's SVM: at most so many feature maps are held at once; of more images the PCA is incremental.
    paper_images: int = 2500
    #: One-class, the paper's SVM: its kernel sees at most so many images, chosen by hash; scaler and PCA are not bound by it.
    svm_images: int = 10000
    #: Make the new version the active one: "yes", "no".
    activate: str = "yes"


@dataclass(frozen=True)
class TrainingPlan:
    """A job with every choice made."""

    collection: str
    dataset: str
    kind: str
    network: str
    seed: int
    synthetic: str
    options: Options
    #: Wall-clock budget in seconds; 0 is none. Not part of what the model is.
    max_seconds: float = 0.0

    def inputs(self) -> dict[str, Any]:
        """What makes the model what it is: the material of its version."""
        return {k: v for k, v in asdict(self).items() if k != "max_seconds"}


def check_job(job: runs_pb2.TrainClassifierJob) -> TrainingPlan:
    """Reads a job. Raises ``JobError``, ``GoalError``, ``UnknownNetworkError``, ``InvalidInputError``."""
    collection, _ = split_reference(job.dataset)
    if job.kind not in {BINARY, ONE_CLASS}:
        raise JobError(f"kind {job.kind!r}: expected {BINARY!r} or {ONE_CLASS!r}")
    if job.max_seconds < 0:
        raise JobError(f"max_seconds is {job.max_seconds}: expected a budget in seconds, or 0 for none")
    network = find_network(job.network or DEFAULT_NETWORK)
    if job.synthetic and not job.synthetic.partition(":")[2]:
        raise JobError(f"synthetic {job.synthetic!r}: expected an image set, such as synthetic:<run>")
    options = read_options(job.options)
    if options.real == "no" and not job.synthetic:
        raise JobError("option real=no needs synthetic images: set synthetic to an image set, such as synthetic:<run>")
    return TrainingPlan(collection, job.dataset, job.kind, network.name, int(job.seed), job.synthetic, options, job.max_seconds)


def read_options(given: Mapping[str, str]) -> Options:
    """Options from their texts. Raises ``JobError`` naming the option, ``GoalError``."""
    defaults = asdict(Options())
    if unknown := sorted(set(given) - set(defaults)):
        raise JobError(f"option {unknown[0]!r} is not known; known are {', '.join(sorted(defaults))}")
    values: dict[str, Any] = {}
    for name, text in given.items():
        try:
            values[name] = type(defaults[name])(text)
        except ValueError:
            raise JobError(f"option {name}={text!r}: expected {_WORDS[type(defaults[name])]}") from None
    options = Options(**values)
    Goal.parse(options.goal)
    _one_of("augmentation", options.augmentation, ("paper", "none"))
    _one_of("precision", options.precision, ("auto", "bf16", "fp32"))
    _one_of("method", options.method, METHODS)
    for name in ("real", "paper", "activate"):
        _one_of(name, str(getattr(options, name)), ("yes", "no"))
    for name in ("alpha", "keep", "nu"):
        if not 0 < getattr(options, name) < 1:
            raise JobError(f"option {name}={getattr(options, name)}: expected a share between 0 and 1")
    for name, low in _LEAST.items():
        if getattr(options, name) < low:
            raise JobError(f"option {name}={getattr(options, name)}: expected at least {low}")
    return options


def effort(plan: TrainingPlan, train_images: int, all_images: int, *, cuda: bool) -> tuple[int, int]:
    """(augmented copies, epochs of fine-tuning) that fit the budget at nominal speed.

    Without a budget: all copies, and fine-tuning. With one: copies from what is left after one pass over all images, and
    fine-tuning only where at least three epochs fit as well.
    """
    speed = _NOMINAL_SPEED.get(plan.network, _SLOWEST) * (_CUDA_FACTOR if cuda else 1.0)
    copies, epochs, options = _MAX_COPIES, _EPOCHS, plan.options
    if plan.max_seconds:
        left = plan.max_seconds * FEATURE_SHARE - all_images / speed
        fitting = int(plan.max_seconds * (1 - FEATURE_SHARE) * speed * _TRAINING_SHARE / max(1, train_images))
        copies = max(0, min(_MAX_COPIES, int(left * speed / max(1, train_images))))
        epochs = min(_EPOCHS, fitting) if fitting >= 3 else 0  # noqa: PLR2004 - fewer would undo more than they mend
    copies = copies if options.copies < 0 else options.copies
    epochs = epochs if options.epochs < 0 else options.epochs
    return (0 if options.augmentation == "none" else copies), epochs


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise JobError(f"option {name}={value!r}: expected one of {', '.join(allowed)}")
