"""The job ``train_human_detector``: labelled images in, an active model version of the collection out. Needs torch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cosmop_common.errors import NotFoundError
from cosmop_common.models_kv import ActiveModels
from cosmop_common.names import run_key
from cosmop_common.records import ModelCard
from cosmop_common.run_handle import RunHandle
from cosmop_common.store import Store
from cosmop_vision.runtime import Extractor
from cosmop_vision.settings import VisionSettings

from cosmop_human_detector import curves
from cosmop_human_detector.cards import learnt_card
from cosmop_human_detector.corpus import Corpus, gather
from cosmop_human_detector.data_versions import BlockingStore
from cosmop_human_detector.detectors import Detector, HeadDetector, smoke_test
from cosmop_human_detector.epoch_order import epoch_order
from cosmop_human_detector.follow import invite
from cosmop_human_detector.heads import Head
from cosmop_human_detector.learning import HEAD_IMAGES, Learnt, blank_head, first_head, head_examples, learn_head, learn_network, load_network
from cosmop_human_detector.plan import Plan
from cosmop_human_detector.registry import find_card, name_for, register
from cosmop_human_detector.settings import Settings
from cosmop_human_detector.shortcut import shortcut_test
from cosmop_human_detector.shortcut_data import probes, scores_of
from cosmop_human_detector.team import Team
from cosmop_human_detector.tuned import detector, write_whole
from cosmop_human_detector.tuning import Hooks, images_done

T = TypeVar("T")
#: Scenes and crowds that the shortcut test of a new model looks at.
_PROBES = 64


def train_human_detector(
    store: Store, models: ActiveModels, settings: Settings, team: Team | None = None, vision: VisionSettings | None = None
) -> Callable[[RunHandle], Awaitable[None]]:
    """The handler of the job. The same images, labels and settings name the same version: one that exists is only activated."""

    async def handle(run: RunHandle) -> None:
        training = Training(run, store, settings, team or Team(), vision or VisionSettings(), asyncio.get_running_loop())
        try:
            card = await asyncio.to_thread(training.work)
        finally:
            await asyncio.to_thread(training.objects.close)
        await models.activate(card.name, card.version)
        run.result(model=f"{card.name}/{card.version}", threshold=f"{card.threshold:.3f}", threshold_rule=card.threshold_rule)

    return handle


class Training:
    """One run of the job, in a thread: what it reads, keeps and registers goes through the object store."""

    def __init__(self, run: RunHandle, store: Store, settings: Settings, team: Team, vision: VisionSettings, loop: asyncio.AbstractEventLoop) -> None:
        """Reads nothing yet.

        Args:
            loop: where the run's own store lives.
        """
        self.run, self.store, self.team, self.vision = run, store, team, vision
        self.plan = Plan.of(run.job.train_human_detector, settings)
        self.objects = BlockingStore(settings)
        self._loop = loop
        self._checkpoint = run_key(run.id, "training/checkpoint.safetensors")

    def work(self) -> ModelCard:
        """Trains, measures and registers, or finds what an earlier attempt registered."""
        name = name_for(self.run.job.collection)
        with self.run.stage("index", unit="images") as stage:

            def listed(count: int) -> None:
                self.run.check()
                stage.advance(count)

            corpus = gather(self.plan.data, self.objects, self.plan.max_images, listed)
            people = sum(s.people for s in corpus.samples)
            stage.set(done=len(corpus.samples), total=len(corpus.samples), people=people, none=len(corpus.samples) - people)
            stage.counts({f"left_out_{reason}": count for reason, count in corpus.left_out.items()})
        version = self.plan.version(corpus.samples)
        known = self._wait(find_card(self.store, f"{name}/{version}"))
        if known is not None:
            return known
        learnt = self._learn_network(corpus) if self.plan.epochs or self.plan.from_scratch else self._learn_head(corpus)
        dataset = f"{', '.join(self.plan.data)}: {len(corpus.samples)} images, {people} with people"
        card, files = learnt_card(learnt, self.plan, name=name, version=version, collection=self.run.job.collection, dataset=dataset)
        made = self._detector(learnt, card)
        smoke_test(made)
        if learnt.held_out:
            card = self._probed(card, made, corpus, learnt)
        self._wait(register(self.store, card, files))
        self._wait(self.store.delete(self._checkpoint))
        return card

    def _learn_head(self, corpus: Corpus) -> Learnt:
        with self.run.stage("features", total=min(len(corpus.samples), 2 * HEAD_IMAGES), unit="images") as features:

            def advance(done: int) -> None:
                self.run.check()
                features.advance(done)

            examples = head_examples(self.plan, corpus, self.vision, advance)
        with self.run.stage("fit", unit="fits") as fits:

            def fitted() -> None:
                self.run.check()
                fits.advance()

            return learn_head(self.plan, examples, fitted)

    def _learn_network(self, corpus: Corpus) -> Learnt:
        backbone = load_network(self.plan, self.vision)
        checkpoint = self._read(self._checkpoint)
        if checkpoint is None:
            with self.run.stage("head", total=min(len(corpus.part("train")), 2 * HEAD_IMAGES), unit="images") as stage:

                def advance(done: int) -> None:
                    self.run.check()
                    stage.advance(done)

                head = first_head(self.plan, corpus, backbone, self.team.device, advance)
        else:
            head = blank_head(self.plan)
        invite(self.team, self.plan, head, checkpoint)
        total = self.plan.epochs * len(epoch_order(corpus.part("train"), self.plan.seed, 1))
        with self.run.stage("fine-tune", total=total, unit="images") as stage:
            stage.set(done=0 if checkpoint is None else images_done(checkpoint))

            def epoch(epochs: list[curves.Epoch]) -> None:
                self._keep(epochs)
                last = epochs[-1]
                stage.set(message=f"epoch {len(epochs) - 1} of {self.plan.epochs}: validation loss {last.val_loss:.4f}, AUROC {last.val_auroc:.4f}")

            hooks = Hooks(self.run.check, stage.advance, epoch, lambda data: self._wait(self.store.put(self._checkpoint, data)))
            learnt = learn_network(self.plan, corpus, self.team, backbone, head, checkpoint=checkpoint, hooks=hooks)
        assert learnt is not None, "the leader has the result"
        return learnt

    def _detector(self, learnt: Learnt, card: ModelCard) -> Detector:
        head = Head.from_bytes(learnt.head.to_bytes())
        if learnt.network is None:
            return HeadDetector(head, Extractor.create(self.plan.network, ("map",), settings=self.vision))
        path = self.vision.cache / "models" / f"{card.files['network.onnx']}.onnx"
        write_whole(path, learnt.network)
        return detector(head, path, self.vision)

    def _probed(self, card: ModelCard, made: Detector, corpus: Corpus, learnt: Learnt) -> ModelCard:
        """The card with what the shortcut test found on held-out images."""
        with self.run.stage("shortcut test"):
            found = probes(learnt.held_out, corpus.read, _PROBES)
            if not found.enough:
                return card
            result = shortcut_test(scores_of(made), card.threshold, found.scenes, found.crowds, seed=self.plan.seed)
        return card.model_copy(update={"metrics": card.metrics | {"shortcut": result.metrics()}})

    def _keep(self, epochs: list[curves.Epoch]) -> None:
        self._wait(self.store.put(run_key(self.run.id, "training/curves.json"), curves.to_json(epochs), "application/json"))
        self._wait(self.store.put(run_key(self.run.id, "training/curves.svg"), curves.to_svg(epochs), "image/svg+xml"))
        self.run.result(curves=run_key(self.run.id, "training/curves.svg"))

    def _read(self, key: str) -> bytes | None:
        try:
            return self._wait(self.store.get(key))
        except NotFoundError:
            return None

    def _wait(self, work: Awaitable[T]) -> T:
        """Runs a coroutine of the run's store from this thread."""

        async def wait() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()
