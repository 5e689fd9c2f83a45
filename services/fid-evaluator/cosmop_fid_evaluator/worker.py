"""The job ``evaluate``: two stored sets in, one record out."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, field, replace

from cosmop_common.errors import InvalidInputError, NotFoundError
from cosmop_common.imagesets import ImageSet, open_set
from cosmop_common.names import evaluation_key, run_key
from cosmop_common.records import EvaluationRecord, MeasureRecord
from cosmop_common.run_handle import RunHandle, StageHandle
from cosmop_common.store import Store

from cosmop_fid_evaluator.copies_sheet import copies_rows, copies_sheet
from cosmop_fid_evaluator.errors import TooFewImagesError
from cosmop_fid_evaluator.evaluation import Outcome, check_measures, evaluate, leak_measures
from cosmop_fid_evaluator.leaks import colour_leak, rotation_leak
from cosmop_fid_evaluator.measured_set import MeasuredSet, Measurer
from cosmop_fid_evaluator.networks import MeanColour, Networks, Turned
from cosmop_fid_evaluator.protocol import find_protocol
from cosmop_fid_evaluator.resolution import resolution_of

log = logging.getLogger(__name__)


@dataclass
class Evaluator:
    """Does the jobs of this process, one after the other; its networks stay loaded between them."""

    store: Store
    chunk: int
    networks: Networks = field(default_factory=Networks)

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

    async def _evaluate(self, run: RunHandle) -> EvaluationRecord:
        job, started = run.job.evaluate, time.monotonic()
        protocol = find_protocol(job.protocol)
        check_measures(job.measures)
        if not (job.reference and job.candidate):
            raise InvalidInputError("an evaluation needs a reference and a candidate set: dataset:, samples:, synthetic: or prefix: and what to take")
        with run.stage("evaluate", unit="images") as stage:
            reference = await open_set(self.store, job.reference, limit=job.max_images)
            candidate = await open_set(self.store, job.candidate, limit=job.max_images)
            stage.set(done=0, total=len(reference.names) + len(candidate.names), message="loading the feature network", cached=0)
            resolution = job.resolution if job.HasField("resolution") else await resolution_of(self.store, job.candidate)
            network = await asyncio.to_thread(self.networks.get, protocol)
            measurer = Measurer(self.store, network, protocol.extraction(network.weights_sha256, resolution), resolution, self.chunk)
            progress = _Progress(run, stage)
            stage.set(message="features of the reference")
            real = await measurer.measure("reference", reference, progress)
            stage.set(message="features of the candidate")
            made = await measurer.measure("candidate", candidate, progress)
            stage.set(message="distances")
            outcome = await asyncio.to_thread(evaluate, protocol, real.features, made.features, job.measures)
            if "leaks" in job.measures:
                try:
                    outcome.measures.extend(await self._leaks(measurer, reference, candidate, real, made, progress))
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
            protocol=protocol.describe(network.weights_sha256, resolution, len(real.names), len(made.names)),
            reference_images=len(real.names),
            candidate_images=len(made.names),
            warnings=[*real.warnings, *made.warnings, *outcome.warnings],
            seconds=round(time.monotonic() - started, 3),
        )

    async def _leaks(
        self, measurer: Measurer, reference: ImageSet, candidate: ImageSet, real: MeasuredSet, made: MeasuredSet, progress: _Progress
    ) -> list[MeasureRecord]:
        """Turned and tinted candidates: the reference is measured at three more turns, and both sets' colours."""
        progress.more(4 * len(reference.names) + len(candidate.names))
        turned = [real]
        for quarters in (1, 2, 3):
            other = replace(measurer, network=Turned(measurer.network, quarters), extraction=f"{measurer.extraction};turn={quarters}")
            turned.append(await other.measure("reference", reference, progress))
        colours = replace(measurer, network=MeanColour(), extraction=f"mean-colour;prepare={measurer.resolution}")
        tints = [await colours.measure(role, images, progress) for role, images in (("reference", reference), ("candidate", candidate))]
        rotation = await asyncio.to_thread(rotation_leak, [part.features for part in turned], made.features)
        return leak_measures(rotation, colour_leak(tints[0].features, tints[1].features))

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

    def images(self, done: int, *, cached: bool) -> None:
        self.stage.advance(done, cached=done if cached else 0)

    def check(self) -> None:
        self.run.check()
