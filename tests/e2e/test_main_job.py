"""The main job as a newcomer starts it: ``cosmop run`` on a folder, interrupted, gone on with, and asked for again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cosmop_common.collection import Collection
from cosmop_local.world import make_world
from cosmop_local.world.collection import collection

COSMOP = Path(sys.executable).parent / "cosmop"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("main-job") / "world"
    make_world(folder, seed=5, count=90)
    return folder


def small(folder: Path) -> Path:
    settings: Collection = collection()
    gan = settings.gan.model_copy(update={"kimg": 0.2, "snapshots": 3, "samples": 24, "synthetic": 24, "max_seconds": 25.0})
    classifier = settings.classifier.model_copy(update={"max_seconds": 10.0})
    path = folder / "small.json"
    path.write_text(settings.model_copy(update={"gan": gan, "classifier": classifier}).to_json())
    return path


def start(world: Path, home: Path) -> subprocess.Popen[str]:
    command = [COSMOP, "run", small(world.parent), "--photos", world / "photos", "--home", home]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_behind(home: Path) -> list[str]:
    """Command lines of processes that work for this home."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if process.pid != os.getpid() and str(home) in " ".join([*(process.info["cmdline"] or []), *process.environ().values()]):
                found.append(" ".join(process.info["cmdline"] or []))
        except psutil.Error:
            continue
    return found


def conserved(funnel: dict) -> bool:
    parts = funnel["unique"] + sum(funnel["duplicates"].values()) + sum(funnel["rejected"].values())
    whole = funnel["scraped"] == parts + funnel["pending"] + funnel["failed"] + funnel["erased"]
    return whole and funnel["unique"] == funnel["people"] + funnel["none"] + funnel["unscreened"] and funnel["pending"] == funnel["unscreened"] == 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_run_is_interrupted_goes_on_and_is_done_once(world: Path, tmp_path: Path) -> None:
    home = tmp_path / "out"
    first = start(world, home)
    assert first.stdout is not None
    for line in first.stdout:
        if "scrape" in line and "images" in line:
            break
    time.sleep(2)
    first.send_signal(signal.SIGINT)
    said = first.stdout.read()
    assert first.wait(300) == 130, said
    assert left_behind(home) == []

    second = start(world, home)
    said = second.communicate(timeout=2000)[0]
    assert second.returncode == 0, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("report: ")
    report = Path(last.removeprefix("report: "))
    assert report.is_file()
    values = json.loads(report.with_suffix(".json").read_text())
    assert conserved(values["funnel"]), values["funnel"]
    assert values["funnel"]["scraped"] == 90
    assert values["funnel"]["rejected"]["too_many_bytes"] == 1
    assert values["funnel"]["rejected"]["corrupt"] + values["funnel"]["rejected"]["not_an_image"] == 2
    assert values["truth"]["dedup"]["recall"]["value"] == 1
    assert len(values["gan"]["snapshots"]) >= 3
    assert all(s["value"] > 0 for s in values["gan"]["snapshots"])
    assert {"precision", "recall", "accuracy", "auroc"} <= values["classifiers"]["binary"].keys()
    assert values["synthetic"]["total"] == 24
    assert left_behind(home) == []

    third = start(world, home)
    said = third.communicate(timeout=600)[0]
    assert third.returncode == 0, said
    again = json.loads(report.with_suffix(".json").read_text())
    assert again["seconds"] == values["seconds"], "nothing was done twice"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--photos", "empty"], "holds no images"),
        (["--photos", "nowhere"], "is no folder"),
        (["bad.yaml"], "unknown key 'dedup.distanze': known keys are"),
        (["missing.yaml"], "missing.yaml: cannot be read"),
        (["good.yaml", "--photos", "photos", "--endpoint", "127.0.0.1:1"], "--photos shows a folder of this machine"),
        (["good.yaml", "--endpoint", "127.0.0.1:1"], "console service does not answer"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    good = "name: c\nclasses: [a, b]\npositive: a\n"
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "good.yaml").write_text(good)
    (tmp_path / "bad.yaml").write_text(good + "dedup: {distanze: 3}\n")
    done = subprocess.run([COSMOP, "run", *arguments, "--home", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    done = subprocess.run([COSMOP, "run", "--photos", "photos", "--home", "file/out"], cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 1
    assert "file/out cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_works_where_the_embedded_system_is_not_installed(tmp_path: Path) -> None:
    """As in the console's container, whose provision job runs this very command."""
    code = "import sys; sys.modules['cosmop_local'] = None; from cosmop_console.cli import main; sys.argv = ['cosmop', 'provision']; main()"
    environment = os.environ | {"COSMOP_NATS_URL": "nats://127.0.0.1:1", "COSMOP_CONNECT_SECONDS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: NATS at nats://127.0.0.1:1 does not answer"), done.stderr
