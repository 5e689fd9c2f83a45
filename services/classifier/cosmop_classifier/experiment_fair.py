"""What makes an augmentation experiment fair: nothing of the test split, and no near-duplicate of it, reaches a training set.

Synthetic images carry what their generator has seen. So it must have learned from the train split of the very dataset version that is
tested on, and that version must not part near-duplicates between its splits. An experiment that cannot be shown to be fair is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from cosmop_common.datasets import ManifestRow, load_dataset
from cosmop_common.errors import NotFoundError, NotReadyError
from cosmop_common.names import run_key
from cosmop_common.records import DatasetRecord, GanRunRecord, SyntheticRecord
from cosmop_common.store import Store

from cosmop_classifier.experiment_plan import ExperimentError, ExperimentPlan


class LeakError(NotReadyError):
    """Test images, or copies of them, could have reached a training set."""


async def check_fair(store: Store, plan: ExperimentPlan) -> DatasetRecord:
    """The dataset version, which with the GAN run was held to what makes the comparison fair.

    Raises:
        NotFoundError: one of them does not exist, or the GAN run has not ended.
        LeakError, ExperimentError: see below.
    """
    dataset, rows = await load_dataset(store, plan.dataset)
    try:
        gan = await GanRunRecord.load(store, run_key(plan.gan_run, "gan.json"))
    except NotFoundError as error:
        raise NotFoundError(f"GAN run {plan.gan_run!r} has no result: wait for its end, or name another (`cosmop status` lists the runs)") from error
    check_generator(plan, gan, dataset, rows)
    check_splits(plan.dataset, rows)
    if plan.synthetic:
        made = await SyntheticRecord.load(store, run_key(plan.synthetic.partition(":")[2], "synthetic.json"))
        if made.gan_run != plan.gan_run:
            raise ExperimentError(f"{plan.synthetic} was made by GAN run {made.gan_run}, not by {plan.gan_run}: name that run, or leave the set out")
    return dataset


def check_generator(plan: ExperimentPlan, gan: GanRunRecord, dataset: DatasetRecord, rows: Sequence[ManifestRow]) -> None:
    """Holds the generator to what it was trained on.

    Raises:
        LeakError: it learned from another dataset version, or from more images than the train split holds.
        ExperimentError: it did not learn the positive class.
    """
    if gan.dataset != plan.dataset:
        raise LeakError(
            f"GAN run {gan.run} learned from {gan.dataset}, and this experiment tests on {plan.dataset}: its training images could be test images here. "
            f"Run the experiment on {gan.dataset}, or train a generator on this version first (`cosmop train gan {plan.dataset}`)"
        )
    conditional = not gan.label and bool(gan.settings.get("watch", {}).get("conditional"))
    if gan.label != dataset.positive and not conditional:
        raise ExperimentError(
            f"GAN run {gan.run} learned {gan.label or 'all classes at once'}, so its images have no class that a classifier could be told: "
            f"train one on class {dataset.positive!r} (gan.label of the collection)"
        )
    available = sum(row.split == "train" and (conditional or row.label == dataset.positive) for row in rows)
    if gan.images > available:
        raise LeakError(
            f"GAN run {gan.run} learned from {gan.images} images, but the train split of {plan.dataset} holds {available} of its class: "
            f"it has seen others. Train a generator on the train split (`cosmop train gan {plan.dataset}`)"
        )


def check_splits(dataset: str, rows: Sequence[ManifestRow]) -> None:
    """Raises ``LeakError`` where near-duplicates stand in more than one split."""
    split_of: dict[str, str] = {}
    for row in rows:
        other = split_of.setdefault(row.group, row.split)
        if other != row.split:
            raise LeakError(
                f"{dataset} holds near-duplicates in both its {other} and its {row.split} split (group {row.group[:12]}): freeze anew (`cosmop freeze`)"
            )
