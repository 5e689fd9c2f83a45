"""The jobs ``evaluate`` (two stored sets in, one record out) and ``extract_features`` (a part of a large one's work)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from cosmop_common.errors import NotFoundError
from cosmop_common.imagesets import ImageSet, open_set
from cosmop_common.names import evaluation_key, run_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import EvaluationRecord, MeasureRecord
from cosmop_common.run_handle import RunHandle, StageHandle
from cosmop_common.store import Store

from cosmop_fid_evaluator.asked import check_asked
from cosmop_fid_evaluator.copies_sheet import copies_rows, copies_sheet
from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.evaluation import Outcome, evaluate, leak_measures
from cosmop_fid_evaluator.leaks import colour_leak, rotation_leak
from cosmop_fid_evaluator.measured_set import MeasuredSet, Measurer, Origin, Part
from cosmop_fid_evaluator.networks import MeanColour, Networks
from cosmop_fid_evaluator.protocol import find_protocol
from cosmop_fid_evaluator.resolution import resolution_of
from cosmop_fid_evaluator.shared_parts import SharedParts

log = logging.getLogger(__name__)


@dataclass
class Evaluator:
    """Does the jobs of this process, one after the other; its networks stay loaded between them.

    Attributes:
        chunk: images of a part.
        shared_from: images of a set from which on its parts are offered to all workers.
        silence: seconds without a word after which another worker is held for dead.
    """

    store: Store
    chunk: int
    networks: Networks = field(default_factory=Networks)
    shared_from: int = 2048
    silence: float = 30.0

    async def __call__(self, run: RunHandle) -> None:
        """Evaluates what the run's job names, unless it is evaluated already.

        Raises:
            InvalidInputError: an unknown protocol, measure or kind of set; a set of fewer than two images.
            NotFoundError: a set does not exist.
        """
        try:
            record = await EvaluationRecord.load(self.store, run_key(run.id, "evaluation.json"))
        except NotFoundError:
            record = await self._evaluate(run)
        if record.gan_run and record.kimg is not None:
            await record.save(self.store, evaluation_key(record.gan_run, record.kimg))
        # Last, because it is what says that nothing is left to do.
        await record.save(self.store, run_key(run.id, "evaluation.json"))
        first = record.measures[0]
        run.result(evaluation=run_key(run.id, "evaluation.json"), measure=first.name, value=f"{first.value:.6g}", protocol=record.protocol)

    async def extract(self, run: RunHandle) -> None:
        """Computes one part of a set, unless its features are there already.

        Raises:
            InvalidInputError, NotFoundError: as for an evaluation.
        """
        job = run.job.extract_features
        with run.stage("features", unit="images") as stage:
            images = await open_set(self.store, job.images, limit=job.max_images)
            part = Part(job.start, images.names[job.start : job.start + job.count])
            stage.set(done=0, total=len(part.names), message="loading the feature network")
            measurer = (await self._measurer(job.protocol, job.resolution)).turned(job.turn)
            stage.set(message="")
            await measurer.part(images, part, _Progress(run, stage))

    async def _measurer(self, protocol: str, resolution: int) -> Measurer:
        found = find_protocol(protocol)
        network = await asyncio.to_thread(self.networks.get, found)
        return Measurer(self.store, network, found.extraction(network.weights_sha256, resolution), resolution, self.chunk)

    def _team(self, run: RunHandle, images: ImageSet, resolution: int, turn: int = 0) -> SharedParts | None:
        """Who helps with a set: nobody, where it is small."""
        if len(images.names) < self.shared_from:
            return None
        asked = run.job.evaluate
        job = runs_pb2.ExtractFeaturesJob(images=images.spec, max_images=asked.max_images, protocol=asked.protocol, resolution=resolution, turn=turn)
        return SharedParts(run, job, self.silence)

    async def _evaluate(self, run: RunHandle) -> EvaluationRecord:
        job, started = run.job.evaluate, time.monotonic()
        protocol = check_asked(job)
        with run.stage("evaluate", unit="images") as stage:
            reference = await open_set(self.store, job.reference, limit=job.max_images)
            candidate = await open_set(self.store, job.candidate, limit=job.max_images)
            stage.set(done=0, total=len(reference.names) + len(candidate.names), message="loading the feature network", cached=0)
            resolution = job.resolution if job.HasField("resolution") else await resolution_of(self.store, job.candidate)
            measurer = await self._measurer(job.protocol, resolution)
            progress = _Progress(run, stage)
            stage.set(message="features of the reference")
            real = await measurer.measure("reference", reference, progress, self._team(run, reference, resolution))
            stage.set(message="features of the candidate")
            made = await measurer.measure("candidate", candidate, progress, self._team(run, candidate, resolution))
            stage.set(message="distances")
            outcome = await asyncio.to_thread(evaluate, protocol, real.features, made.features, job.measures)
            if "leaks" in job.measures:
                try:
                    team = partial(self._team, run, reference, resolution)
                    outcome.measures.extend(await self._leaks(measurer, (reference, real), (candidate, made), progress, team))
                except TooFewImagesError as error:
                    outcome.warnings.append(f"leaks is left out: {error}")
            if outcome.copies is not None:
                await self._save_copies(run.id, outcome, (reference, real), (candidate, made))
            stage.set(message=f"{outcome.measures[0].name} {outcome.measures[0].value:.4g}")
        return EvaluationRecord(
            run=run.id,
            reference=job.reference,
            candidate=job.candidate,
            gan_run=job.gan_run,
            kimg=job.kimg if job.gan_run else None,
            measures=outcome.measures,
            protocol=protocol.describe(measurer.network.weights_sha256, resolution, len(real.names), len(made.names)),
            reference_images=len(real.names),
            candidate_images=len(made.names),
            warnings=[*real.warnings, *made.warnings, *outcome.warnings],
            seconds=round(time.monotonic() - started, 3),
        )

    async def _leaks(
        self,
        measurer: Measurer,
        reference: tuple[ImageSet, MeasuredSet],
        candidate: tuple[ImageSet, MeasuredSet],
        progress: _Progress,
        team: Callable[[int], SharedParts | None],
    ) -> list[MeasureRecord]:
        """Turned and tinted candidates: the reference is measured at three more turns, and both sets' colours."""
        progress.more(len(reference[0].names) + len(candidate[0].names))
        colours = replace(measurer, network=MeanColour(), extraction=f"mean-colour;prepare={measurer.resolution}")
        tints = [await colours.measure(role, images, progress) for role, images in (("reference", reference[0]), ("candidate", candidate[0]))]
        # First, because it is cheap and says where there are too few images for either.
        colour = colour_leak(tints[0].features, tints[1].features)
        progress.more(3 * len(reference[0].names))
        turned = [reference[1]]
        for quarters in (1, 2, 3):
            turned.append(await measurer.turned(quarters).measure("reference", reference[0], progress, team(quarters)))
        rotation = await asyncio.to_thread(rotation_leak, [part.features for part in turned], candidate[1].features)
        return leak_measures(rotation, colour)

    async def _save_copies(self, run: str, outcome: Outcome, reference: tuple[ImageSet, MeasuredSet], candidate: tuple[ImageSet, MeasuredSet]) -> None:
        """The nearest training image of each candidate as JSON, and the most suspicious pairs as a picture."""
        assert outcome.copies is not None
        rows = copies_rows(outcome.copies, reference[1].names, candidate[1].names)
        await self.store.put(run_key(run, "copies.json"), json.dumps([row.__dict__ for row in rows], indent=1).encode(), "application/json")
        shown = rows[:16]
        pairs = zip(await candidate[0].read([r.candidate for r in shown]), await reference[0].read([r.reference for r in shown]), strict=True)
        await self.store.put(run_key(run, "copies.png"), await asyncio.to_thread(copies_sheet, list(pairs)), "image/png")


@dataclass
class _Progress:
    """Tells the run's stage, and hears whether to stop."""

    run: RunHandle
    stage: StageHandle

    def more(self, images: int) -> None:
        state = self.run.find_stage(self.stage.name)
        self.stage.set(total=(state.total if state else 0) + images)

    def images(self, done: int, origin: Origin) -> None:
        self.stage.advance(done, **({} if origin == "computed" else {origin: done}))

    def check(self) -> None:
        self.run.check()
