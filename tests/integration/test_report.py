"""A report from real records in the real store: its numbers, its page, and what it does where things are missing."""

from __future__ import annotations

import io
import json

from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.names import evaluation_key, model_key, run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import console_pb2, runs_pb2
from cosmop_common.records import (
    EvaluationRecord,
    GanRunRecord,
    MeasureRecord,
    ModelCard,
    Prediction,
    PredictionsRecord,
    SnapshotRecord,
    Value,
)
from cosmop_common.runs import Runs
from cosmop_common.store import Store
from cosmop_console.report import build_report
from PIL import Image

FUNNEL = console_pb2.Funnel(
    scraped=20, unique=10, people=7, none=3, duplicates={"exact": 4, "near": 1}, rejected={"flat": 3, "corrupt": 2}, labelled={"border": 4, "other": 2}
)


def png(colour: str) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(sink, "PNG")
    return sink.getvalue()


async def begin(bus: Bus) -> runs_pb2.Run:
    await Collections(bus).put(Collection(name="c", title="Borders <b>&</b> bags", classes=("border", "other"), positive="border"))
    return runs_pb2.Run(id="c-1", kind="console.pipeline", collection="c", job=runs_pb2.Job(pipeline=runs_pb2.PipelineJob(provenance="These are drawings.")))


async def test_a_run_that_only_scraped_has_a_report(bus: Bus, store: Store) -> None:
    run = await begin(bus)
    run.stages.add(name="freeze", state=runs_pb2.RUN_STATE_FAILED, message="nothing is labelled: label in the console")
    await Runs(bus).create(run)
    keys = await build_report(bus, store, run.id, FUNNEL)
    values = await store.get_json(keys.json_key)
    funnel = values["funnel"]
    assert funnel["scraped"] == funnel["unique"] + sum(funnel["duplicates"].values()) + sum(funnel["rejected"].values())
    assert values["incomplete"] == {"freeze": "nothing is labelled: label in the console"}
    assert values["gan"] is None
    assert values["classifiers"] == {}
    page = (await store.get(keys.html_key)).decode()
    assert "nothing is labelled" in page
    assert "These are drawings." in page
    assert "Borders &lt;b&gt;" in page, "what people typed is text, never markup"
    assert "http://" not in page.replace("http://www.w3.org", ""), "the page needs no network"


async def test_everything_that_was_measured_is_told(bus: Bus, store: Store) -> None:
    run = await begin(bus)
    wrong = await store.put_image(png("red"), "image/png")
    stage = run.stages.add(name="binary", state=runs_pb2.RUN_STATE_SUCCEEDED)
    stage.result["model"] = "c-binary/v1"
    stage.started.FromSeconds(100)
    stage.finished.FromSeconds(142)
    await Runs(bus).create(run)
    for kimg, value in ((0.0, 300.0), (1.5, 210.5)):
        await store.put(snapshot_key("c-1-gan", kimg, "grid.png"), png("blue"), "image/png")
        await SnapshotRecord(
            run="c-1-gan", kimg=kimg, weights="w", weights_sha256="s", grid=snapshot_key("c-1-gan", kimg, "grid.png"), samples="z",
            sample_count=4, resolution=32, seconds=3,
        ).save(store, snapshot_key("c-1-gan", kimg, "snapshot.json"))  # fmt: skip
        await EvaluationRecord(
            run="e", reference="r", candidate="s", measures=[MeasureRecord(name="fid", value=value, interval=(value - 9, value + 9))],
            protocol="fid/1", reference_images=50, candidate_images=40, warnings=["N is small"],
        ).save(store, evaluation_key("c-1-gan", kimg))  # fmt: skip
    await GanRunRecord(
        run="c-1-gan", collection="c", dataset="c/v1", label="border", resolution=32, preset="tiny", images=50, settings={}, parameters={},
        seconds=60, ended_because="time budget", snapshots=[0.0, 1.5], best=1.5,
    ).save(store, run_key("c-1-gan", "gan.json"))  # fmt: skip
    measured = Value(value=0.8, interval=(0.7, 0.9), n=10, method="bootstrap")
    await ModelCard(
        name="c-binary", version="v1", kind="binary", network="efficientnet_lite0", dataset="c/v1", classes=["border", "other"], positive="border",
        threshold=0.4, metrics={"test": dict.fromkeys(("precision", "recall", "accuracy", "auroc"), measured)}, confusion={"test": {"tp": 4, "fp": 1, "fn": 0, "tn": 5}},
    ).save(store, model_key("c-binary", "v1", "card.json"))  # fmt: skip
    predictions = [
        Prediction(image=wrong, split="test", label="other", positive=True, score=0.97),
        Prediction(image="0" * 64, split="test", label="border", positive=False, score=0.1),
    ]
    await PredictionsRecord(model="c-binary", version="v1", predictions=predictions).save(store, model_key("c-binary", "v1", "predictions.json"))

    keys = await build_report(bus, store, run.id, FUNNEL)
    values = json.loads(await store.get(keys.json_key))
    assert [(s["kimg"], s["metric"], s["value"], s["interval"]) for s in values["gan"]["snapshots"]] == [
        (0.0, "fid", 300.0, [291.0, 309.0]),
        (1.5, "fid", 210.5, [201.5, 219.5]),
    ]
    assert values["gan"]["best"] == 1.5
    assert values["classifiers"]["binary"]["precision"] == {"value": 0.8, "interval": [0.7, 0.9], "n": 10}
    assert values["classifiers"]["binary"]["model"] == "c-binary/v1"
    assert values["seconds"] == {"binary": 42.0}
    page = (await store.get(keys.html_key)).decode()
    assert page.count("<svg") == 1
    assert "0.97" in page
    assert "gone" in page, "a picture that was erased since is told as such"
