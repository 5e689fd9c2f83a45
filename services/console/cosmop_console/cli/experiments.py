"""``cosmop experiment``: the paper's question, asked of one dataset version and answered in a table, a plot and plain sentences."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc
import typer
from cosmop_common.collection import Collection
from cosmop_common.datasets import split_reference
from cosmop_common.errors import InvalidInputError
from cosmop_common.experiment_records import ExperimentRecord
from cosmop_common.pb.cosmop.v1 import classifier_pb2, console_pb2, runs_pb2
from cosmop_common.records import Value
from cosmop_common.store import Store

from cosmop_console.cli import target as targets
from cosmop_console.cli.options import OUT, Dataset, Endpoint, Home
from cosmop_console.cli.remote import RunFailedError
from cosmop_console.cli.target import Target
from cosmop_console.cli.watch import say, watch
from cosmop_console.clients import Services, known_error

experiment = typer.Typer(no_args_is_help=True, help="Ask a question of a dataset version by training many models on it.")
_WIDE = 31


@dataclass(frozen=True)
class Wish:
    """What the command was asked for; empty parts are the collection's or the service's own."""

    dataset: str
    gan: str
    seeds: int
    ratios: tuple[float, ...]
    synthetic: str
    network: str
    classifiers: str
    run: str

    def job(self, settings: Collection) -> runs_pb2.AugmentationExperimentJob:
        """As a job of the classifier."""
        options = {"classifiers": self.classifiers} if self.classifiers else {}
        synthetic = self.synthetic and f"synthetic:{self.synthetic.removeprefix('synthetic:')}"
        return runs_pb2.AugmentationExperimentJob(
            dataset=self.dataset, gan_run=self.gan, synthetic=synthetic, network=self.network or settings.classifier.network,
            seeds=self.seeds, ratios=self.ratios, seed=settings.classifier.seed, options=options,
        )  # fmt: skip


@experiment.command()
def augmentation(  # noqa: PLR0913 - each is an option of the command
    dataset: Dataset,
    *,
    gan: Annotated[str, typer.Option(metavar="RUN", help="The GAN run; it must have learned from the train split of this dataset version.")],
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Repetitions, each on its own part of the train split.")] = 5,
    ratios: Annotated[str, typer.Option(help="Synthetic images for each real positive one, separated by commas. Empty: 0.5,1,2.")] = "",
    synthetic: Annotated[str, typer.Option(metavar="RUN", help="A synthetic set of that GAN run. Empty: images are generated.")] = "",
    network: Annotated[str, typer.Option(help="Network whose features the classifiers stand on. Empty: the collection's.")] = "",
    classifiers: Annotated[str, typer.Option(help="binary,one_class,one_class_paper (the paper's SVM: slow). Empty: the first two.")] = "",
    run_id: Annotated[str, typer.Option("--run", help="Id of the run. Empty: it follows from what is asked, so that the same command goes on with it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: reports/RUN below --home.")] = None,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Does it help to train on synthetic images? For each classifier: real, augmented, real + synthetic, filtered, synthetic only."""
    wish = Wish(dataset, gan, seeds, read_ratios(ratios), synthetic, network, classifiers, run_id)
    asyncio.run(_augmentation(targets.find(home, endpoint), wish, out, home))


def read_ratios(text: str) -> tuple[float, ...]:
    """``0.5,1,2`` as numbers. Raises ``InvalidInputError``."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InvalidInputError(f"--ratios {text}: expected numbers separated by commas, such as 0.5,1,2") from None


async def _augmentation(target: Target, wish: Wish, out: Path | None, home: Path) -> None:
    collection, _ = split_reference(wish.dataset)
    async with target.services() as services:
        try:
            ended = await _run(services, wish, collection)
        except grpc.aio.AioRpcError as error:
            raise known_error(error, "classifier") from error
    if ended.state != runs_pb2.RUN_STATE_SUCCEEDED:
        raise RunFailedError(ended.error or f"run {ended.id} was cancelled")
    store = Store(target.connection)
    try:
        record, table = await store.get(ended.result["experiment"]), await store.get(ended.result["csv"])
    finally:
        store.close()
    folder = out or home / "reports" / ended.id
    found = ExperimentRecord.model_validate_json(record)
    page = await asyncio.to_thread(_write, folder, found, record, table)
    say(told(found))
    say(f"report: {page}")


async def _run(services: Services, wish: Wish, collection: str) -> runs_pb2.Run:
    answer = await services.console.GetCollection(console_pb2.GetCollectionRequest(name=collection))
    job = wish.job(Collection.parse(answer.json))
    run = wish.run or f"{collection}-augmentation-{hashlib.sha256(job.SerializeToString(deterministic=True)).hexdigest()[:12]}"
    started = await services.classifier.StartExperiment(classifier_pb2.StartExperimentRequest(collection=collection, experiment=job, run=run))
    say(f"run {started.id}")
    return await watch(services, started.id)


def _write(folder: Path, found: ExperimentRecord, record: bytes, table: bytes) -> Path:
    # Plots are wanted here alone.
    from cosmop_console.report.experiment import page

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_bytes(record)
    (folder / "experiment.csv").write_bytes(table)
    (folder / "experiment.html").write_text(page(found), encoding="utf-8")
    return (folder / "experiment.html").resolve()


def told(found: ExperimentRecord) -> str:
    """The table and the answers, for a terminal."""
    lines = ["", f"{found.dataset}, GAN {found.gan_run} at {found.kimg:g} kimg, {found.seeds} seeds, {found.test_images} test images"]
    for classifier, finding in found.findings.items():
        lines += ["", f"{classifier.replace('_', ' ')}", f"  {'trained on':<{_WIDE}} {'AUROC':<24} {'against real alone':<28} precision recall accuracy"]
        for row in found.conditions:
            if row.classifier == classifier:
                m = row.metrics
                rest = " ".join(f"{_number(m[name]):<{len(name)}}" for name in ("precision", "recall", "accuracy"))
                lines.append(f"  {row.title:<{_WIDE}} {spelt(m['auroc']):<24} {spelt(row.differences.get('auroc'), sign='+'):<28} {rest}")
        lines += [f"  {finding.sentence}", f"  {synthetic_sentence(found, classifier)}"]
    lines += ["", *(f"note: {warning}" for warning in found.warnings), found.method, ""]
    return "\n".join(lines)


def synthetic_sentence(found: ExperimentRecord, classifier: str) -> str:
    """The paper's own check, in a sentence; what the served model says of it, and why that differs where it does."""
    finding = found.findings[classifier]
    said = (
        f"Trained on real images alone, it calls {spelt(finding.synthetic_called)} of the {found.synthetic_images} synthetic images positive; "
        f"of the real test images {spelt(finding.positives_called)} of the positive and {spelt(finding.negatives_called)} of the negative ones."
    )
    if finding.served:
        word = finding.served
        said += f" The served {word.model} calls {spelt(word.called)} of the synthetic ones positive, and is unsure of {word.uncertain:.3f}."
    return f"{said} {finding.synthetic_note}".rstrip()


def spelt(value: Value | None, *, sign: str = "") -> str:
    """``0.912 [0.880, 0.941]``."""
    if value is None or value.value is None:
        return "-"
    interval = f" [{value.interval[0]:{sign}.3f}, {value.interval[1]:{sign}.3f}]" if value.interval else ""
    return f"{value.value:{sign}.3f}{interval}"


def _number(value: Value) -> str:
    return "-" if value.value is None else f"{value.value:.3f}"
