"""A report from real records in the real store: its numbers, its page, and what it does where things are missing."""

from __future__ import annotations

import io
import json

import pytest
from cosmop_common.bus import Bus
from cosmop_common.collection import Collection
from cosmop_common.collections_kv import Collections
from cosmop_common.experiment_records import ConditionRecord, ExperimentRecord, FindingRecord, experiment_key
from cosmop_common.facts import Facts
from cosmop_common.model_evaluation import CalibrationBin, CurvePoint, Mistake, ModelEvaluation, Reliability, Slice, SplitReport, evaluation_file
from cosmop_common.names import dataset_key, evaluation_key, model_key, run_key, snapshot_key
from cosmop_common.pb.cosmop.v1 import console_pb2, facts_pb2, runs_pb2
from cosmop_common.records import (
    DatasetRecord,
    EvaluationRecord,
    GanRunRecord,
    MeasureRecord,
    ModelCard,
    Prediction,
    PredictionsRecord,
    SnapshotRecord,
    Value,
    utc_now,
)
from cosmop_common.runs import Runs
from cosmop_common.store import Store
from cosmop_console.report import build_report
from PIL import Image

MEASURES = ("auroc", "precision", "recall", "accuracy")
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
    assert page.count("<svg") == 2, "the curve over kimg, and the measures"
    assert page.count('alt="Samples at') == 2, "a run of before there were film strips shows its snapshots' grids"
    assert values["gan"]["curves"] is None
    assert "0.97" in page
    assert "gone" in page, "a picture that was erased since is told as such"
    assert "46.06" in page, "the paper's figures stand beside ours"
    assert values["paper"]["table_1"][1] == {"kimg": 10000.0, "fid": 46.06}
    assert values["not_run"]["experiment"]["command"].startswith("cosmop experiment augmentation <collection>/<version> --gan c-1-gan")
    assert "cosmop experiment augmentation" in page
    tables = {key.rsplit("/", 1)[-1]: (await store.get(key)).decode() async for key in store.list("reports/c-1/tables/")}
    assert "this run,1.5,fid,210.5,201.5,219.5,True" in tables["table_1_fid.csv"].splitlines()
    assert "the paper,10000.0,fid,46.06,,," in tables["table_1_fid.csv"].splitlines()
    assert "this run,binary,precision,0.8,0.7,0.9,10" in tables["performance.csv"].splitlines()
    assert "experiment.csv" not in tables


async def test_a_generators_film_and_curves_are_shown(bus: Bus, store: Store) -> None:
    run = await begin(bus)
    await Runs(bus).create(run)
    await store.put(snapshot_key("c-1-gan", 1.0, "grid.png"), png("blue"), "image/png")
    await SnapshotRecord(
        run="c-1-gan",
        kimg=1,
        weights="w",
        weights_sha256="s",
        grid=snapshot_key("c-1-gan", 1.0, "grid.png"),
        samples="z",
        sample_count=4,
        resolution=32,
        seconds=3,
    ).save(store, snapshot_key("c-1-gan", 1.0, "snapshot.json"))
    await GanRunRecord(
        run="c-1-gan", collection="c", dataset="c/v1", label="border", resolution=32, preset="tiny", images=50, settings={"ada_cap": 0.7, "ada_target": 0.6},
        parameters={}, seconds=60, ended_because="kimg reached", snapshots=[1.0], best=1.0, best_because="lowest fid: 9 at 1 kimg",
    ).save(store, run_key("c-1-gan", "gan.json"))  # fmt: skip
    await store.put(run_key("c-1-gan", "film.png"), png("red"), "image/png")
    names = ["kimg", "loss_g", "loss_d", "r1", "path_length", "p", "sign", "seconds_per_kimg"]
    rows = [[0.5, 1.0, 0.9, 0.01, None, 0.1, 0.4, 9.0], [1.0, float("nan"), 0.8, None, None, 0.2, 0.5, 9.0]]
    await store.put_json(run_key("c-1-gan", "curves.json"), {"names": names, "rows": rows, "stride": 1, "open": []})

    keys = await build_report(bus, store, run.id, FUNNEL)
    values = json.loads(await store.get(keys.json_key), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert values["gan"]["curves"] == {"names": names, "rows": [rows[0], [1.0, None, *rows[1][2:]]]}
    page = (await store.get(keys.html_key)).decode()
    assert 'class="film"' in page
    assert "lowest fid: 9 at 1 kimg" in page
    assert 'alt="Samples at' not in page, "the film says it in one picture"
    for text in ("cap of p: 0.7", "target of the sign: 0.6", "R1 penalty", "discriminator"):
        assert text in page, "the plot's words are text"
    lines = (await store.get("reports/c-1/tables/training_curves.csv")).decode().splitlines()
    assert lines[:2] == [",".join(names), "0.5,1.0,0.9,0.01,,0.1,0.4,9.0"]


async def test_the_experiment_the_copies_the_filter_and_the_curves_are_told(bus: Bus, store: Store) -> None:
    run = await begin(bus)
    for stage, key, value in (("freeze", "dataset", "c/v1"), ("binary", "model", "c-binary/v1")):
        run.stages.add(name=stage, state=runs_pb2.RUN_STATE_SUCCEEDED).result[key] = value
    await Runs(bus).create(run)
    await DatasetRecord(
        collection="c", version="v1", created=utc_now(), classes=["border", "other"], positive="border", splits={"train": {"border": 3, "other": 2}},
        group_distance=10, manifest_sha256="m",
    ).save(store, dataset_key("c", "v1", "dataset.json"))  # fmt: skip
    kept, copy = await store.put_image(png("red"), "image/png"), await store.put_image(png("green"), "image/png")
    facts = Facts(bus)
    await facts.put(facts_pb2.Deduplicated(collection="c", image=kept, kept=kept, kind=facts_pb2.DUPLICATE_KIND_UNIQUE, cause=1))
    await facts.put(facts_pb2.Deduplicated(collection="c", image=copy, kept=kept, kind=facts_pb2.DUPLICATE_KIND_NEAR, distance=3, cause=1))
    await facts.put(facts_pb2.Screened(collection="c", image=kept, people=True, score=0.9, threshold=0.4, model="human/v1", cause=1))
    measured = Value(value=0.8, interval=(0.7, 0.9), n=10)
    await ModelCard(
        name="human", version="v1", kind="human_detector", network="n", dataset="d", threshold=0.4, details={"miss_rate": 0.01, "miss_rate_bound": 0.043},
    ).save(store, model_key("human", "v1", "card.json"))  # fmt: skip
    await ModelCard(
        name="c-binary", version="v1", kind="binary", network="n", dataset="c/v1", positive="border", threshold=0.4,
        metrics={"test": dict.fromkeys(("precision", "recall", "accuracy", "auroc"), measured)}, confusion={"test": {"tp": 4, "fp": 1, "fn": 0, "tn": 5}},
    ).save(store, model_key("c-binary", "v1", "card.json"))  # fmt: skip
    test = SplitReport(
        images=10, positives=4, groups=10, metrics={}, confusion={}, pr_curve=[CurvePoint(threshold=0.4, precision=0.8, recall=1.0)],
        reliability=Reliability(
            bins=[CalibrationBin(low=0.9, high=1, probability=0.95, positive=measured, images=4)],
            expected_calibration_error=measured, brier=measured, negative_log_likelihood=0.2,
        ),
        slices=[Slice(by="light", name="dark", images=3, positives=1, metrics={"accuracy": measured}, confusion={})],
        false_positives=[Mistake(image=copy, label="other", score=0.91, margin=0.5)],
    )  # fmt: skip
    await ModelEvaluation(
        model="c-binary", version="v1", kind="binary", dataset="c/v1", threshold=0.4, threshold_rule="r", groups_parted=0, splits={"test": test}
    ).save(store, evaluation_file("c-binary", "v1"))
    changed = Value(value=-0.05, interval=(-0.09, -0.01), n=10)
    rows = [
        ConditionRecord(classifier="binary", condition="real", title="real images", images={"positive": 3}, metrics=dict.fromkeys(MEASURES, measured), by_seed=[0.8]),
        ConditionRecord(
            classifier="binary", condition="synthetic-1", title="real + synthetic 1:1", ratio=1, images={"positive": 3}, by_seed=[0.75],
            metrics=dict.fromkeys(MEASURES, measured), differences=dict.fromkeys(MEASURES, changed),
        ),
    ]  # fmt: skip
    finding = FindingRecord(
        verdict="hurts", sentence="Adding one hurts the binary classifier.", condition="synthetic-1", measure="auroc", difference=changed,
        synthetic_called=measured, positives_called=measured, negatives_called=measured,
    )  # fmt: skip
    await ExperimentRecord(
        run="e-1", collection="c", dataset="c/v1", positive="border", gan_run="c-1-gan", kimg=1, synthetic="s", synthetic_images=9, resolution=32,
        network="n", seeds=1, ratios=[1], copies=1, share=0.8, test_images=10, test_groups=10, conditions=rows, findings={"binary": finding},
        method="Intervals are 95 %.", seconds=1,
    ).save(store, experiment_key("c/v1", "e-1"))  # fmt: skip

    keys = await build_report(bus, store, run.id, FUNNEL)
    values = await store.get_json(keys.json_key)
    assert values["copies"] == [{"kept": kept, "count": 1, "copies": [{"image": copy, "distance": 3}]}]
    assert values["human_filter"]["miss_rate_bound"] == 0.043
    assert values["classifiers"]["binary"]["evaluation"]["slices"][0]["name"] == "dark"
    assert values["experiment"]["findings"]["binary"]["verdict"] == "hurts"
    assert "experiment" not in values["not_run"]
    page = (await store.get(keys.html_key)).decode()
    assert page.count("<svg") == 4, "measures, precision and recall, reliability, the experiment"
    for text in ("Adding one hurts the binary classifier.", "3 bits", "4.3\u00a0%", "dark"):
        assert text in page
    tables = {key.rsplit("/", 1)[-1]: (await store.get(key)).decode() async for key in store.list("reports/c-1/tables/")}
    assert "binary,synthetic-1,real + synthetic 1:1,auroc,0.8,0.7,0.9,-0.05,-0.09,-0.01" in tables["experiment.csv"].splitlines()
    assert f"{kept},{copy},3" in tables["copies.csv"].splitlines()
    assert "binary,light,dark,3,1,accuracy,0.8,0.7,0.9" in tables["slices.csv"].splitlines()
    assert "binary,false_positives," + copy + ",other,0.91" in tables["mistakes.csv"].splitlines()
