"""Signs of collapse, so that nobody has to notice it: the paper's run collapsed after 10,000 kimg and went on to 15,000. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosmop_gan_trainer.config import TrainConfig
from cosmop_gan_trainer.ranking import Judged, comparable

SURE = 0.98
"""Mean sign of D on reals from which on it tells every real image from every fake, and the generator learns nothing more."""
RECALL_FALL = 0.25
"""A recall below this share of the best before means that most of what was drawn is drawn no more (modes are lost)."""
_IN_A_ROW = 2


@dataclass
class Guard:
    """Watches training; ``see`` it after each step, and ask ``judge`` with each evaluation.

    Attributes:
        since: kimg at which the discriminator became sure with p at its cap; None while it is not.
    """

    train: TrainConfig
    kimg: float
    """How long that may last."""
    since: float | None = None

    def see(self, kimg: float, p: float, sign: float) -> str:
        """Why training is over, empty while it is not: no augmentation is left that would hold the discriminator back."""
        helpless = self.train.ada_target > 0 and p >= self.train.ada_cap and sign >= SURE
        if not helpless or not self.kimg:
            self.since = None
            return ""
        if self.since is None:
            self.since = kimg
        if kimg - self.since < self.kimg:
            return ""
        return f"collapse: for {self.kimg:g} kimg the discriminator was sure of every real image with p at its cap of {self.train.ada_cap:g}"

    def judge(self, snapshots: Sequence[Judged]) -> str:
        """Why training is over, from evaluations in the order of kimg: recall fell and stayed low."""
        known: list[Judged] = []
        for snapshot in sorted(snapshots, key=lambda s: s.kimg):
            if snapshot.pending:
                break
            known.append(snapshot)
        recalls = [r for r in (_recall(s) for s in comparable(known)) if r is not None]
        if not self.kimg or len(recalls) <= _IN_A_ROW:
            return ""
        before, last = max(recalls[:-_IN_A_ROW]), recalls[-_IN_A_ROW:]
        if max(last) >= RECALL_FALL * before:
            return ""
        return f"collapse: recall fell from {before:.3g} to {last[-1]:.3g}"


def _recall(snapshot: Judged) -> float | None:
    measures = snapshot.record.measures if snapshot.record else []
    return next((m.value for m in measures if m.name == "recall"), None)
