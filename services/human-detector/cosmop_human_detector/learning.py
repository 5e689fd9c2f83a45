"""One training from samples to a model: the head first, then, where the plan says so, the whole network. Needs torch; no NATS.

Two ways, by ``Plan.epochs``:

* 0: the head alone, on the network as published. Few images will do; every image is held out once (folds), and the head that is
  shipped is fitted on all.
* more: the head and then the network on the part "train"; "val" ends it early; "held_out", which neither has seen, chooses the
  threshold. The parts share no group (``corpus.part_of``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from cosmop_common.errors import RefusedImageError
from cosmop_common.records import Value
from cosmop_vision.modules import Backbone, load_backbone
from cosmop_vision.networks import find_network
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings
from numpy.typing import NDArray

from cosmop_human_detector.corpus import Corpus
from cosmop_human_detector.curves import Epoch
from cosmop_human_detector.epoch_order import batches
from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.features import Examples, extract
from cosmop_human_detector.fitting import fit
from cosmop_human_detector.heads import Head, windows
from cosmop_human_detector.measures import measure
from cosmop_human_detector.photos import Photo
from cosmop_human_detector.pictures import Pictures
from cosmop_human_detector.plan import Plan
from cosmop_human_detector.samples import Sample, choose
from cosmop_human_detector.team import Team
from cosmop_human_detector.thresholds import Threshold, choose_threshold
from cosmop_human_detector.training import train
from cosmop_human_detector.tunable_filter import TunableFilter
from cosmop_human_detector.tuned import to_onnx
from cosmop_human_detector.tuning import Hooks, Tuner

#: The head is fitted on at most so many of each kind: their features lie in memory, 80 kB an image at 320 pixels.
HEAD_IMAGES = 4000
#: What each part must have of each kind.
_LEAST = {"train": 10, "val": 2, "held_out": 10}


@dataclass(frozen=True)
class Learnt:
    """What came of a training."""

    head: Head
    threshold: Threshold
    #: Measured on images that the scoring model was not fitted on, by slice: "held_out", "held_out_<source>", "held_out_person_<size>".
    metrics: dict[str, dict[str, Value]]
    #: sha256 of each image that it was fitted on.
    fitted_on: tuple[str, ...]
    #: Images that were measured on but not fitted on, for further tests.
    held_out: tuple[Sample, ...] = ()
    #: The fine-tuned network as ONNX; None: it is the published one.
    network: bytes | None = None
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0


def head_examples(plan: Plan, corpus: Corpus, settings: VisionSettings, advance: Callable[[int], None] = lambda _images: None) -> Examples:
    """What a head is fitted on: features of the published network.

    Args:
        advance: is told how many images more have become features; may raise to stop.
    """
    extractor = Extractor.create(plan.network, ("map",), settings=settings)
    return extract(_photos(corpus, choose(corpus.samples, HEAD_IMAGES)), extractor, plan.shape, advance)


def learn_head(plan: Plan, examples: Examples, fitted: Callable[[], None] = lambda: None) -> Learnt:
    """Fits a head and chooses its threshold.

    Args:
        fitted: is called after each fit; may raise to stop.
    """
    trained = train(examples, plan.shape, plan.miss_rate, fitted, promise=True)
    return Learnt(trained.head, trained.threshold, {"held_out": trained.held_out}, examples.ids)


def learn_network(
    plan: Plan,
    corpus: Corpus,
    team: Team,
    backbone: Backbone,
    head: Head,
    *,
    checkpoint: bytes | None = None,
    hooks: Hooks | None = None,
) -> Learnt | None:
    """Fine-tunes in all processes of the team; the leader gets the result.

    Args:
        head: fitted on the backbone as it is (``first_head``); of no account where there is a checkpoint.
        checkpoint: what ``hooks.save`` was given last by an interrupted training of the same.
    """
    parts = checked_parts(corpus)
    rule = Preprocessing.of(backbone.network, size=plan.size, fit=plan.shape.fit)
    with Pictures(corpus, rule) as pictures:
        tuner = Tuner(TunableFilter(backbone, head), plan, parts["train"], parts["val"], pictures, team, hooks or Hooks())
        if checkpoint is not None:
            tuner.restore(checkpoint)
        tuner.run()
        scores = tuner.scores(parts["held_out"])
    if team.rank:
        return None
    held_out, scores = _whole(parts["held_out"], scores)
    people = np.array([s.people for s in held_out])
    threshold = choose_threshold(scores, people, plan.miss_rate, promise=True)
    return Learnt(
        head=tuner.model.head(),
        threshold=threshold,
        metrics=sliced(scores, held_out, threshold.value),
        fitted_on=tuple(corpus.sha256s(parts["train"])),
        held_out=tuple(held_out),
        network=to_onnx(tuner.model.backbone),
        epochs=tuner.epochs,
        best_epoch=tuner.best_epoch,
    )


def first_head(plan: Plan, corpus: Corpus, backbone: Backbone, device: torch.device, advance: Callable[[int], None]) -> Head:
    """The head on the network as it is, fitted on the part that is trained on."""
    chosen = choose(checked_parts(corpus)["train"], HEAD_IMAGES)
    rule = Preprocessing.of(backbone.network, size=plan.size, fit=plan.shape.fit)
    backbone.to(device).eval()
    found: list[NDArray[np.float32]] = []
    kept: list[Sample] = []
    with Pictures(corpus, rule) as pictures, torch.inference_mode():
        for batch, (places, array) in zip(batches(chosen, plan.batch), pictures.batches(batches(chosen, plan.batch)), strict=True):
            if places:
                _, maps = backbone(torch.from_numpy(array).to(device))
                found.append(windows(maps.float().cpu().numpy(), plan.shape))
                kept += [batch[p] for p in places]
            advance(len(batch))
    people = np.array([s.people for s in kept], bool)
    if not (people.any() and (~people).any()):
        raise TrainingDataError("images of only one kind decode: a filter is trained on images with people and images without")
    return fit(Examples(np.concatenate(found), people, np.array([s.source for s in kept]), tuple(s.identity for s in kept)), plan.shape)


def load_network(plan: Plan, settings: VisionSettings) -> Backbone:
    """The plan's network. Raises ``WeightsUnavailableError`` where its published weights cannot be had."""
    torch.manual_seed(plan.seed)
    return load_backbone(plan.network, settings, pretrained=not plan.from_scratch)


def checked_parts(corpus: Corpus) -> dict[str, list[Sample]]:
    """The samples of each part. Raises ``TrainingDataError`` where one has too few of a kind."""
    parts = {name: corpus.part(name) for name in _LEAST}
    for name, least in _LEAST.items():
        for people, word in ((True, "with people"), (False, "without people")):
            count = sum(s.people == people for s in parts[name])
            if count < least:
                raise TrainingDataError(
                    f"the part {name!r} has {count} images {word}, at least {least} are needed: add images, or train the head alone (epochs 0), "
                    "which needs fewer"
                )
    return parts


def sliced(scores: NDArray[np.float64], samples: Sequence[Sample], threshold: float) -> dict[str, dict[str, Value]]:
    """Measures on all samples, on those of each source, and on people of each size (beside all images without people).

    Sizes are COCO's: the visible box of the largest person is "small" below 32 x 32 pixels, "medium" below 96 x 96, else "large".
    """
    people = np.array([s.people for s in samples])
    found = {"held_out": measure(scores, people, threshold)}
    sources = np.array([s.source for s in samples])
    for source in np.unique(sources):
        found[f"held_out_{source or 'unnamed'}"] = measure(scores[sources == source], people[sources == source], threshold)
    sizes = np.array([_size(s) for s in samples])
    for size in np.unique(sizes[sizes != ""]):
        chosen = (sizes == size) | ~people
        found[f"held_out_person_{size}"] = measure(scores[chosen], people[chosen], threshold)
    return found


def _size(sample: Sample) -> str:
    """The size of the largest person in words; empty where it is not known."""
    if sample.largest is None:
        return ""
    return next((word for word, side in (("small", 32), ("medium", 96)) if sample.largest.area < side**2), "large")


def blank_head(plan: Plan) -> Head:
    """A head of zeros: where a checkpoint will say what it is."""
    return Head(plan.shape, np.zeros(find_network(plan.network).features, np.float32), 0.0)


def _photos(corpus: Corpus, samples: Sequence[Sample]) -> Iterator[Photo]:
    for sample in samples:
        try:
            yield Photo(sample.name, corpus.read(sample), sample.people, sample.source)
        except RefusedImageError:
            continue


def _whole(samples: Sequence[Sample], scores: NDArray[np.float64]) -> tuple[list[Sample], NDArray[np.float64]]:
    """Without those that do not decode. Raises ``TrainingDataError`` where a kind is lost by that."""
    whole = ~np.isnan(scores)
    kept = [s for s, ok in zip(samples, whole, strict=True) if ok]
    if len({s.people for s in kept}) < 2:  # noqa: PLR2004 - both kinds
        raise TrainingDataError("held-out images of only one kind decode: there is no threshold without both")
    return kept, scores[whole]
