"""The job ``train_gan``: a dataset version or a folder in, snapshots and a record of the run out. Resumable at any moment."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

import torch
from cosmop_common import imagesets
from cosmop_common.names import run_key, sha256_hex, snapshot_key
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.records import GanRunRecord, SnapshotRecord
from cosmop_common.run_handle import RunHandle, StageHandle
from cosmop_common.store import Store

from cosmop_gan_trainer import ranking
from cosmop_gan_trainer.checkpoints import Checkpoints
from cosmop_gan_trainer.data import Images, TrainingSet
from cosmop_gan_trainer.evaluations import Evaluations
from cosmop_gan_trainer.plans import plan
from cosmop_gan_trainer.ranking import Judged
from cosmop_gan_trainer.reading import find_parts, read_images
from cosmop_gan_trainer.session import Due, Session
from cosmop_gan_trainer.snapshots import film
from cosmop_gan_trainer.team import Team

log = logging.getLogger(__name__)

_SAMPLES = 1000
_FILM_ROWS = 12
_FILM_COLUMNS = 10


@dataclass
class TrainingRun:
    """One delivery of the job."""

    run: RunHandle
    store: Store
    device: torch.device
    team: Team = field(default_factory=Team)
    job: runs_pb2.TrainGanJob = field(init=False)

    def __post_init__(self) -> None:
        self.job = self.run.job.train_gan
        self.config, self.schedule = plan(self.job)
        self.checkpoints = Checkpoints(self.store, self.run.id, self.config.watch.keep_checkpoints)
        self.evaluations = Evaluations(self.run.bus, self.run.runs, self.store, self.run.job, self.config.watch)

    async def execute(self) -> None:
        """Trains, then waits for the last evaluations and writes ``gan.json``. A finished run does nothing again."""
        record_key = run_key(self.run.id, "gan.json")
        if await self.store.exists(record_key):
            self._results(await GanRunRecord.load(self.store, record_key))
            return
        with self.run.stage("train", total=round(self.job.kimg * 1000), unit="images") as stage:
            session = await self._open(stage)
            await self._train(session, stage)
        with self.run.stage("evaluate", total=len(session.taken), unit="snapshots") as stage:
            record = await self._finalise(session, stage)
        await record.save(self.store, record_key)
        self._results(record)
        await self.run.event("finished", record.model_dump_json().encode())

    async def _open(self, stage: StageHandle) -> Session:
        """Reads the images and, where there is one, the last checkpoint."""
        begun = time.monotonic()
        images = await self._read(stage)
        data = TrainingSet.build(images, self.config, self.device)
        stage.set(used=data.count, refused=len(images.refused))
        session = await asyncio.to_thread(Session.start, self.config, data, self.schedule, self.device, self.team)
        # Reading is part of the run's budget.
        session.started = begun
        if (state := await self.checkpoints.load()) is not None:
            await asyncio.to_thread(session.load, state)
            log.info("run %s goes on at %.3f kimg", self.run.id, session.trainer.kimg)
            if session.taken and session.taken[-1] == session.trainer.kimg:
                await self._store_snapshot(session)
        return session

    async def _read(self, stage: StageHandle) -> Images:
        """The images that the job names; a conditional run learns their classes, each under its name."""

        def report(count: int) -> None:
            stage.set(message=f"reading images: {count}")
            self.run.check()

        parts = await find_parts(self.store, self.job, conditional=self.config.watch.conditional)
        if self.config.watch.conditional:
            self.config = self.config.model_copy(update={"network": self.config.network.model_copy(update={"classes": tuple(parts)})})
        return await read_images(self.store, list(parts.values()), self.config, report)

    async def _train(self, session: Session, stage: StageHandle) -> None:
        def interrupted() -> bool:
            return self.run.stopping.is_set() or self.run.cancelled.is_set()

        while not session.ended:
            due = await asyncio.to_thread(session.advance, interrupted, lambda s: _report(s, stage))
            if due is Due.COLLAPSED:
                # The checkpoint before is kept: this state is worth nothing. The run's result is its best snapshot.
                log.warning("run %s: %s", self.run.id, session.ended)
                return
            if due is Due.SNAPSHOT:
                session.take()
            await self._checkpoint(session)
            self.run.check()
            if due is Due.SNAPSHOT:
                await self._store_snapshot(session)
                if not session.ended and (why := await self._judge(session)):
                    session.ended = why
                    await self._checkpoint(session)
        _report(session, stage)

    async def _judge(self, session: Session) -> str:
        """Why training should end, from the evaluations that are there."""
        judged = await self.evaluations.judged(session.taken)
        if ranking.rising(judged, self.config.watch.patience):
            return "metric rising"
        return session.guard.judge(judged)

    async def _checkpoint(self, session: Session) -> None:
        judged = await self.evaluations.judged(session.taken) if self.config.watch.evaluate else []
        best = ranking.best(judged)
        # The best snapshot's state stays, to go on from; until all are judged any of the waiting may be it.
        keep = {round(j.kimg * 1000) for j in judged if j is best or (j.pending and j.kimg)}
        await self.checkpoints.save(await asyncio.to_thread(session.save), session.trainer.images, keep)

    async def _store_snapshot(self, session: Session) -> None:
        """Stores and announces the snapshot at this point, and asks for its evaluation; what is there already stays."""
        kimg, seconds = session.trainer.kimg, session.seconds

        def key(name: str) -> str:
            return snapshot_key(self.run.id, kimg, name)

        if not await self.store.exists(key("snapshot.json")):
            drawn = await asyncio.to_thread(session.draw, self.job.samples or _SAMPLES)
            await self.store.put(key("generator.safetensors"), drawn.weights)
            await self.store.put(key("grid.png"), drawn.grid, "image/png")
            await self.store.put(key("samples.zip"), await asyncio.to_thread(imagesets.pack, drawn.samples), "application/zip")
            record = SnapshotRecord(
                run=self.run.id,
                kimg=kimg,
                weights=key("generator.safetensors"),
                weights_sha256=sha256_hex(drawn.weights),
                grid=key("grid.png"),
                samples=key("samples.zip"),
                sample_count=len(drawn.samples),
                resolution=self.config.network.resolution,
                seconds=seconds,
                stats=drawn.stats,
            )
            await record.save(self.store, key("snapshot.json"))
            await self.run.event("snapshot", record.model_dump_json().encode())
        await self.store.put_json(run_key(self.run.id, "curves.json"), session.curves.state())
        if self.config.watch.evaluate:
            await self.evaluations.request(kimg)

    async def _finalise(self, session: Session, stage: StageHandle) -> GanRunRecord:
        """Waits for the evaluations, and says which snapshot is the run's result, and why."""

        def report(judged: list[Judged]) -> None:
            stage.set(done=sum(not j.pending for j in judged), failed=sum(bool(j.failure) for j in judged))

        judged = [Judged(k, failure="evaluations are off") for k in session.taken]
        if self.config.watch.evaluate:
            judged = await self.evaluations.wait(session.taken, self.run.check, report)
        best = ranking.best(judged)
        await self.store.put(run_key(self.run.id, "film.png"), await self._film(judged, best), "image/png")
        why = _why(best, judged)
        stage.set(message=why)
        return GanRunRecord(
            run=self.run.id,
            collection=self.run.job.collection,
            dataset=self.job.dataset,
            label=self.job.label,
            resolution=self.config.network.resolution,
            preset=self.config.preset,
            images=session.trainer.data.count if session.trainer.data else 0,
            settings=self.config.flat(),
            parameters=session.trainer.parameters(),
            seconds=session.seconds,
            ended_because=session.ended,
            snapshots=session.taken,
            best=best.kimg if best else session.taken[-1],
            best_because=why,
        )

    async def _film(self, judged: list[Judged], best: Judged | None) -> bytes:
        """The same seeds at snapshots spread over the run, the best and the last among them."""
        shown = {round(k * (len(judged) - 1) / max(1, _FILM_ROWS - 1)) for k in range(_FILM_ROWS)}
        rows = []
        for index, snapshot in enumerate(judged):
            if index not in shown and snapshot is not best:
                continue
            images = await imagesets.open_set(self.store, imagesets.samples_set(self.run.id, snapshot.kimg))
            caption = f"{snapshot.kimg:g} kimg" + ("*" if snapshot is best else "")
            rows.append((caption, await images.read(images.names[:_FILM_COLUMNS])))
        return await asyncio.to_thread(film, rows)

    def _results(self, record: GanRunRecord) -> None:
        self.run.result(snapshots=str(len(record.snapshots)), best=f"{record.best:g}", ended_because=record.ended_because, gan=run_key(self.run.id, "gan.json"))


def _why(best: Judged | None, judged: list[Judged]) -> str:
    """The best snapshot in a sentence, and what could not be judged."""
    missing = [j for j in judged if j.value is None]
    told = ""
    if missing:
        first = missing[0]
        told = f"; {len(missing)} of {len(judged)} snapshots have no evaluation ({first.kimg:g} kimg: {first.failure or 'not finished in time'})"
    if best is None or best.record is None:
        return f"the last snapshot, for want of any evaluation{told}"
    measure = best.record.measures[0]
    return f"lowest {measure.name}: {measure.value:.4g} at {best.kimg:g} kimg{told}"


def _report(session: Session, stage: StageHandle) -> None:
    """Progress: images shown of those that the budget will allow, and how training stands."""
    trainer = session.trainer
    total = trainer.images / session.progress if session.progress > 0 else 0
    stats = ", ".join(f"{name} {trainer.stats[key]:.3g}" for name, key in (("G", "loss_g"), ("D", "loss_d"), ("R1", "r1"), ("p", "p")) if key in trainer.stats)
    stage.set(done=trainer.images, total=max(round(total), trainer.images), message=f"{trainer.kimg:.3f} kimg, {stats}, {session.speed:.1f} s/kimg")
