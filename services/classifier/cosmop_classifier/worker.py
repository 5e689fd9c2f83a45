"""The job process: one training job in, registered and active models out."""

from __future__ import annotations

from cosmop_common.jobs import JobHandler
from cosmop_common.models_kv import ActiveModels
from cosmop_common.run_handle import RunHandle
from cosmop_common.store import Store

from cosmop_classifier.plan import check_job
from cosmop_classifier.registry import BINARY
from cosmop_classifier.train_binary import train_binary
from cosmop_classifier.train_one_class import train_one_class
from cosmop_classifier.training import Workbench


def train_classifier(store: Store, active: ActiveModels) -> JobHandler:
    """The handler of ``train_classifier`` jobs. The run's result names the models: ``model``, and ``paper`` for the preset."""

    async def handle(run: RunHandle) -> None:
        plan = check_job(run.job.train_classifier)
        bench = await Workbench.open(run, store, plan)
        cards = [await train_binary(bench)] if plan.kind == BINARY else await train_one_class(bench)
        if plan.options.activate == "yes":
            await active.activate(cards[0].name, cards[0].version)
        for key, card in zip(("model", "paper"), cards, strict=False):
            run.result(**{key: f"{card.name}/{card.version}"})

    return handle
