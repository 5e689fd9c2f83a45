"""All subcommands in one list; each is a thin client of the services."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from cosmop_common.errors import InvalidInputError
from cosmop_common.pb.cosmop.v1 import runs_pb2

from cosmop_console.cli import calls, dedup, embedded, erasing, exports, gan, humans, target
from cosmop_console.cli import scrape as scrapes
from cosmop_console.cli.experiments import experiment
from cosmop_console.cli.models import models
from cosmop_console.cli.options import OUT, Dataset, Endpoint, Home
from cosmop_console.cli.run import make_plan, run_plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="COSMOP from the shell: embedded on this machine, or on a cluster.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
train = typer.Typer(no_args_is_help=True, help="Train a model on a dataset version.")
app.add_typer(train, name="train")
copies = typer.Typer(no_args_is_help=True, help="Which images are copies of which.")
app.add_typer(copies, name="dedup")
app.add_typer(experiment, name="experiment")
app.add_typer(models, name="models")


@app.command()
def up(home: Home = OUT) -> None:
    """Start the embedded system and keep it up until Ctrl-C or `cosmop down`."""
    asyncio.run(embedded.up(home))


@app.command()
def down(home: Home = OUT) -> None:
    """Drain and end the embedded system."""
    embedded.down(home)


@app.command()
def status(home: Home = OUT, endpoint: Endpoint = "") -> None:
    """Addresses, collections with their funnels, and runs."""
    asyncio.run(calls.status(target.find(home, endpoint)))


@app.command()
def provision(home: Home = OUT, endpoint: Endpoint = "") -> None:
    """Make all streams, consumers and buckets; safe to repeat."""
    asyncio.run(calls.provision(target.find(home, endpoint, servers_only=True)))


@app.command()
def run(
    collection: Annotated[str, typer.Argument(help="A collection file, or the name of a collection that exists.")] = "",
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos, with labels.csv where labels are known: shown as an image search and scraped.")
    ] = None,
    drawings: Annotated[int, typer.Option(help="How many drawings, where no photos are given; at least 60.")] = 360,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Go the whole way from keywords to a report. Without a collection or photos: on a world of drawings."""
    plan = make_plan(collection, photos, home, drawings)
    raise typer.Exit(asyncio.run(run_plan(plan, home, endpoint)))


@app.command()
def scrape(  # noqa: PLR0913 - each is an option of the command
    queries: Annotated[
        list[str] | None, typer.Argument(help="Search keywords; for source web page addresses, for folder and urls a path. None: the collection's keywords.")
    ] = None,
    *,
    collection: Annotated[str, typer.Option(help="Collection that the images join: a name, or a YAML file to make it from. Empty: the only one.")] = "",
    source: Annotated[str, typer.Option(help="google, x, openverse, wikimedia, urls, folder, web. Empty: the collection's.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many new images; 0: as the collection says.")] = 0,
    max_mb: Annotated[float, typer.Option(min=0, help="At most so many megabytes; 0 is no bound.")] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="At most so many minutes; 0 is no bound.")] = 0,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE: a setting of the source; may be repeated.")] = None,
    run_id: Annotated[str, typer.Option("--run", help="Id of the run. One that exists is gone on with.")] = "",
    cancel: Annotated[str, typer.Option(metavar="RUN", help="End this run, and nothing else.")] = "",
    sources: Annotated[bool, typer.Option("--sources", help="List the sources and whether they can run here, and nothing else.")] = False,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Find images and download them: a live line for the source and for each host."""
    # A folder or list of this machine: the service that reads it has another working directory.
    local = source in {"folder", "urls"}
    here = tuple(str(Path(q).resolve()) if local and Path(q).exists() else q for q in queries or ())
    wish = scrapes.Wish(here, collection, source, limit, int(max_mb * 1e6), minutes * 60, option or (), run_id)
    system = target.find(home, endpoint)
    if sources:
        asyncio.run(scrapes.list_sources(system))
    elif cancel:
        asyncio.run(scrapes.cancel(system, cancel))
    else:
        asyncio.run(scrapes.scrape(system, wish))


@app.command()
def freeze(collection: Annotated[str, typer.Argument()], home: Home = OUT, endpoint: Endpoint = "") -> None:
    """Freeze a dataset version of all that is labelled now."""
    asyncio.run(calls.freeze(target.find(home, endpoint), collection))


@app.command()
def export(
    dataset: Dataset,
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    blur_faces: Annotated[
        bool, typer.Option("--blur-faces", help="Make faces unrecognisable in the written files; the stored images stay as they are.")
    ] = False,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Write a dataset version into a folder: images by split and class, labels.csv, export.json."""
    asyncio.run(exports.export(target.find(home, endpoint, servers_only=True), dataset, folder, blur_faces=blur_faces))


@app.command()
def erase(
    images: Annotated[list[str], typer.Argument(help="Image ids, as the console shows them.")],
    collection: Annotated[str, typer.Option(help="The collection that is not to keep them.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the tombstone.")] = "",
    everywhere: Annotated[bool, typer.Option("--everywhere", help="In all collections that have seen them.")] = False,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Erase images for good: no stage uses or fetches them again, their bytes go, and what holds them is named."""
    asyncio.run(erasing.erase(target.find(home, endpoint), collection, images, reason, everywhere=everywhere))


@train.command("gan")
def train_gan(  # noqa: PLR0913, PLR0917 - each is an option of the command
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="<collection>/<version>, as `cosmop freeze` prints it; or a folder of images.")],
    preset: Annotated[str | None, typer.Option(help="tiny, auto, stylegan2, paper256, paper512, paper1024, cifar.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the images, 16 to 1024, a power of two.")] = None,
    kimg: Annotated[float | None, typer.Option(help="Thousands of real images to show.")] = None,
    snapshots: Annotated[int | None, typer.Option(help="How many snapshots to take.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Time budget; 0 is none.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    samples: Annotated[int | None, typer.Option(help="Images drawn of each snapshot, for its evaluation.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="A trainer setting, name=value; may be repeated.")] = None,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Train StyleGAN2-ADA as the collection says, or on a folder; what is given here goes first."""
    wanted = {
        "preset": preset, "resolution": resolution, "kimg": kimg, "snapshots": snapshots, "max_seconds": max_seconds, "seed": seed, "samples": samples,
    }  # fmt: skip
    what = Path(dataset) if Path(dataset).is_dir() else dataset
    asyncio.run(gan.train_gan(target.find(home, endpoint), what, wanted, option or []))


@train.command("classifier")
def train_classifier(
    dataset: Dataset,
    kind: Annotated[str, typer.Option(help="binary or one_class.")] = "binary",
    network: Annotated[str | None, typer.Option(help="resnet50, efficientnet_lite0, efficientnet_b0, convnext_tiny ... Default: the collection's.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time budget; 0: none. Default: the collection's.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    option: Annotated[list[str] | None, typer.Option(help="name=value, several times: goal=recall=0.95, method=patches, epochs=5.")] = None,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Train a classifier as the collection says, but for what is said here."""
    wanted = {"network": network, "max_seconds": seconds, "seed": seed}
    asyncio.run(calls.train_classifier(target.find(home, endpoint), dataset, kind, wanted, option or []))


@train.command("human-detector")
def train_human_detector(  # noqa: PLR0913, PLR0917 - each is an option of the command
    collection: Annotated[str, typer.Argument(help="Collection that the filter is for; without one, the general filter of all collections.")] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(help="pass:DIR, crowdhuman:DIR, folder:DIR (labels.csv, or human/ and no_human/), dataset:<collection>/<version>; may be repeated."),
    ] = None,
    network: Annotated[str, typer.Option(help="efficientnet_lite0, resnet50, resnext101_32x8d (the paper's), ...; empty: the service's setting.")] = "",
    epochs: Annotated[int, typer.Option(help="Epochs of fine-tuning the whole network; 0 fits the head alone.")] = 0,
    miss_rate: Annotated[float, typer.Option(help="Share of people that the threshold may miss.")] = 0.05,
    size: Annotated[int, typer.Option(help="Side in pixels at which images are seen; 0: the service's setting.")] = 0,
    batch: Annotated[int, typer.Option(help="Images in a step, over all processes; 0: 32.")] = 0,
    max_images: Annotated[int, typer.Option(help="At most so many of each kind; 0: 20,000.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32 or bf16; empty: bf16 on CUDA.")] = "",
    seed: Annotated[int, typer.Option()] = 0,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Begin with random weights instead of published ones.")] = False,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Train the human filter: its head, and with --epochs the whole network. The new version screens from then on."""
    train = runs_pb2.TrainHumanDetectorJob(
        data=[humans.absolute(spec) for spec in data or ()], network=network, miss_rate=miss_rate, epochs=epochs, size=size, seed=seed,
        max_images=max_images, batch=batch, precision=precision, from_scratch=from_scratch,
    )  # fmt: skip
    asyncio.run(humans.train(target.find(home, endpoint), collection, train))


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - each is an option of the command
    reference: Annotated[
        str, typer.Argument(help="dataset:<collection>/<version>[?split=..&label=..], samples:<run>/<images>, synthetic:<run>, prefix:<keys>.")
    ],
    candidate: Annotated[str, typer.Argument(help="The set to judge, named likewise.")],
    protocol: Annotated[str, typer.Option(help="fid, fid-bf16, fid-clean, fid-torchmetrics, fd-efficientnet_lite0.")] = "fid",
    measures: Annotated[str, typer.Option(help="Further ones, by commas: kid, prdc, infinity, bootstrap, copies, leaks.")] = "kid,prdc",
    resolution: Annotated[int | None, typer.Option(min=0, help="Side that both sets are reduced to first; 0: not; default: the generator's.")] = None,
    max_images: Annotated[int, typer.Option(min=0, help="At most so many of each set, chosen by hash; 0: all.")] = 0,
    collection: Annotated[str, typer.Option(help="Collection that the evaluation is listed under.")] = "",
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Measure how far one set of stored images is from another."""
    wanted = [m.strip() for m in measures.split(",") if m.strip()]
    job = runs_pb2.EvaluateJob(reference=reference, candidate=candidate, protocol=protocol, measures=wanted, resolution=resolution, max_images=max_images)
    asyncio.run(calls.evaluate(target.find(home, endpoint), collection, job))


@app.command()
def generate(
    gan_run: Annotated[str, typer.Argument(help="The GAN run.")],
    count: Annotated[int, typer.Option()] = 64,
    seed: Annotated[int, typer.Option()] = 0,
    truncation: Annotated[float, typer.Option()] = 1.0,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Make images with a GAN run's best snapshot."""
    asyncio.run(calls.generate(target.find(home, endpoint), gan_run, count, seed, truncation))


@app.command()
def classify(
    collection: Annotated[str, typer.Argument()],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    one_class: Annotated[bool, typer.Option(help="Ask the one-class classifier as well.")] = False,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Classify image files over the endpoint."""
    for path in images:
        if not path.is_file():
            raise InvalidInputError(f"{path} is no file: give image files")
    asyncio.run(calls.classify(target.find(home, endpoint), collection, images, one_class))


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: reports/RUN below --home.")] = None,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """Make a pipeline run's report anew and fetch it."""
    asyncio.run(calls.report(target.find(home, endpoint), run_id, out or home / "reports" / run_id))


@copies.command("report")
def dedup_report(
    collection: Annotated[str, typer.Argument(help="Collection; empty: all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    page: Annotated[Path | None, typer.Option("--html", help="Write a page with the pictures in it to this file.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many clusters of a collection, largest first.")] = 1000,
    home: Home = OUT,
    endpoint: Endpoint = "",
) -> None:
    """List clusters of copies: the kept image, its copies, their distance, and why that one is kept."""
    asyncio.run(dedup.report(target.find(home, endpoint), collection, "json" if as_json else "csv" if as_csv else "table", page, limit))
