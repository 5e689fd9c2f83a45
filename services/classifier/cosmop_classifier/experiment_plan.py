"""What an augmentation experiment is: its conditions and its choices. Pure.

The paper asked what images of a GAN do to its classifiers, and gave no answer. Here each classifier is trained under every condition
below, with several seeds, and measured on the same real test images. What makes that fair is in ``experiment_fair``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cosmop_common.datasets import split_reference
from cosmop_common.errors import InvalidInputError
from cosmop_common.names import token
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_vision.networks import find_network

from cosmop_classifier.plan import DEFAULT_NETWORK
from cosmop_classifier.thresholds import Goal

BINARY, ONE_CLASS, PAPER = "binary", "one_class", "one_class_paper"
CLASSIFIERS = (BINARY, ONE_CLASS, PAPER)
RATIOS = (0.5, 1.0, 2.0)
SEEDS = 5
MAX_SEEDS = 100
_MAX_RATIO = 100.0


class ExperimentError(InvalidInputError):
    """An experiment that cannot be done as it is asked for; the message names the field and the cure."""


@dataclass(frozen=True)
class ExperimentOptions:
    """``AugmentationExperimentJob.options``, by name, as text in the job."""

    #: Which classifiers, separated by commas: binary, one_class (kNN), one_class_paper (the paper's SVM on whole feature maps: slow).
    classifiers: str = f"{BINARY},{ONE_CLASS}"
    #: Augmented copies of each real training image under "classical".
    copies: int = 4
    #: Of the near-duplicate groups of the train split, the share that each seed trains on.
    share: float = 0.8
    #: Binary: what the threshold is chosen for on the validation split.
    goal: str = "f1"
    #: One-class: neighbours of kNN, and the share of training images that the threshold keeps.
    neighbours: int = 2
    keep: float = 0.9
    #: The paper's SVM: at most so many images in all, because the feature maps of all are held in memory (0.2 MB each with resnet50).
    paper_images: int = 4000
    #: Of generated images: psi.
    truncation: float = 1.0


@dataclass(frozen=True)
class ExperimentPlan:
    """An experiment with every choice made."""

    collection: str
    dataset: str
    gan_run: str
    #: ``synthetic:<run>``; empty: images are generated.
    synthetic: str
    network: str
    seeds: int
    #: Ascending. Empty: those of ``RATIOS`` that the synthetic set has enough images for.
    ratios: tuple[float, ...]
    seed: int
    options: ExperimentOptions

    @property
    def classifiers(self) -> tuple[str, ...]:
        """In the order in which they are told."""
        asked = {name.strip() for name in self.options.classifiers.split(",")}
        return tuple(name for name in CLASSIFIERS if name in asked)


@dataclass(frozen=True)
class Condition:
    """What a classifier is trained on."""

    name: str
    title: str
    #: Real positive images; real negative ones are always there, because the GAN makes none.
    real: bool = True
    #: Augmented copies of the real images beside them.
    copies: bool = False
    #: Synthetic images for each real positive one.
    ratio: float | None = None
    #: Only synthetic images that the classifier of the same seed, trained on real images alone, calls positive.
    filtered: bool = False


def check_experiment(job: runs_pb2.AugmentationExperimentJob) -> ExperimentPlan:
    """Reads a job. Raises ``ExperimentError``, ``GoalError``, ``UnknownNetworkError``, ``InvalidInputError``."""
    collection, _ = split_reference(job.dataset)
    if not job.gan_run:
        raise ExperimentError("gan_run is empty: name the GAN run whose images are tried (`cosmop status` lists the runs)")
    token(job.gan_run)
    if job.synthetic and not job.synthetic.startswith("synthetic:"):
        raise ExperimentError(f"synthetic {job.synthetic!r}: expected synthetic:<run>, as `cosmop generate` prints it, or nothing to generate what is needed")
    seeds = job.seeds or SEEDS
    if seeds > MAX_SEEDS:
        raise ExperimentError(f"seeds is {seeds}: expected 1 to {MAX_SEEDS}")
    for ratio in job.ratios:
        if not (math.isfinite(ratio) and 0 < ratio <= _MAX_RATIO):
            raise ExperimentError(f"ratio {ratio:g}: expected synthetic images for each real one, more than 0 and at most {_MAX_RATIO:g}")
    network = find_network(job.network or DEFAULT_NETWORK)
    options = read_options(job.options)
    return ExperimentPlan(collection, job.dataset, job.gan_run, job.synthetic, network.name, seeds, tuple(sorted(set(job.ratios))), int(job.seed), options)


def read_options(given: Mapping[str, str]) -> ExperimentOptions:
    """Options from their texts. Raises ``ExperimentError`` naming the option, ``GoalError``."""
    defaults = asdict(ExperimentOptions())
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in defaults:
            raise ExperimentError(f"option {name!r} is not known; known are {', '.join(sorted(defaults))}")
        try:
            values[name] = type(defaults[name])(text)
        except ValueError:
            raise ExperimentError(f"option {name}={text!r}: expected a number") from None
    options = ExperimentOptions(**values)
    Goal.parse(options.goal)
    unknown = {name.strip() for name in options.classifiers.split(",")} - set(CLASSIFIERS)
    if unknown:
        raise ExperimentError(f"option classifiers={options.classifiers!r}: expected some of {', '.join(CLASSIFIERS)}, separated by commas")
    for name in ("share", "keep", "truncation"):
        if not 0 < getattr(options, name) <= 1:
            raise ExperimentError(f"option {name}={getattr(options, name)}: expected a share, more than 0 and at most 1")
    for name in ("copies", "neighbours", "paper_images"):
        if getattr(options, name) < 1:
            raise ExperimentError(f"option {name}={getattr(options, name)}: expected at least 1")
    return options


def ratios_that_fit(plan: ExperimentPlan, positives: int, synthetic: int) -> tuple[float, ...]:
    """The ratios to try, for a synthetic set that exists.

    Args:
        positives: positive images that each seed trains on.
        synthetic: images of the set.

    Raises:
        ExperimentError: a ratio that was asked for needs more images than there are.
    """
    for ratio in plan.ratios:
        if wanted(ratio, positives) > synthetic:
            raise ExperimentError(
                f"ratio {ratio:g} needs {wanted(ratio, positives)} synthetic images, {plan.synthetic} has {synthetic}: "
                f"make more (`cosmop generate {plan.gan_run} --count {wanted(ratio, positives)}`), or leave the set out and they are generated"
            )
    fitting = plan.ratios or tuple(r for r in RATIOS if wanted(r, positives) <= synthetic)
    return fitting or (synthetic / positives,)


def wanted(ratio: float, positives: int) -> int:
    """Synthetic images that a ratio asks for."""
    return max(1, round(ratio * positives))


def answering(ratios: Sequence[float]) -> float:
    """The ratio that answers the question, chosen before anything is measured: the one nearest to as many synthetic images as real ones."""
    return min(ratios, key=lambda ratio: abs(math.log(ratio)))


def conditions(ratios: Sequence[float], copies: int) -> list[Condition]:
    """All conditions; "real" comes first, because the others are compared with it."""
    main = answering(ratios)
    return [
        Condition("real", "real images"),
        Condition("classical", f"real + {copies} augmented copies", copies=True),
        *(Condition(f"synthetic-{r:g}".replace(".", "_"), f"real + synthetic {r:.3g}:1", ratio=r) for r in ratios),
        Condition("filtered", f"real + synthetic {main:.3g}:1, filtered", ratio=main, filtered=True),
        Condition("synthetic_only", "synthetic only", real=False, ratio=main),
    ]
