"""How a generator's training is drawn: with gaps, with one point, in a file of its own; and film strips that would make a report heavy."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
from cosmop_console.report import plots
from cosmop_console.report.pages import sheet
from cosmop_console.report.plots import standalone
from cosmop_console.report.plots_training import training
from cosmop_console.training import Curves
from PIL import Image

NAMES = ["kimg", "loss_g", "loss_d", "r1", "path_length", "p", "sign", "seconds_per_kimg"]


def noise(side: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def test_the_plot_stands_by_itself_and_names_p_and_its_cap() -> None:
    rows = [[0.1 * k, 1.0, 0.9, 10.0 ** -(k % 4), None, 0.01 * k, 0.5, 9.0] for k in range(1, 40)]
    found = Curves.parse({"names": NAMES, "rows": rows})
    plot = standalone(training(found.kimg, found.values, {"ada_target": 0.6, "ada_cap": 0.8}))
    ET.fromstring(plot)
    for word in ("cap of p: 0.8", "target of the sign: 0.6", "R1 penalty"):
        assert word in plot
    for name in ("--ink", "--accent", "--warn", "--third", "--faint"):
        assert plot.count(f"{name}: #") == 2, "each colour is told for light and for dark"
    assert "#0072b2" not in plot.split("</style>", 1)[1], "no colour but the style's"


def test_what_was_never_measured_is_not_drawn() -> None:
    found = Curves.parse({"names": NAMES, "rows": [[0.1, float("nan"), 0.9, None, None, 0.0, None, 9.0]]})
    assert found.values["loss_g"] == [None]
    plot = training(found.kimg, found.values, {"ada_target": 0, "ada_cap": 0.8})
    assert "discriminator" in plot
    for word in ("generator", "R1 penalty", "cap of p", "sign"):
        assert word not in plot.replace("discriminator", ""), "without a target nothing is augmented"


def test_a_heavy_film_strip_is_made_light() -> None:
    assert sheet(noise(64)).startswith("data:image/png")
    heavy = noise(900)
    light = sheet(heavy)
    assert light.startswith("data:image/jpeg")
    assert len(light) < len(heavy)


def test_numbers_that_would_lie_on_each_other_are_left_to_the_table() -> None:
    drawn = plots.curve([0, 7.7, 9.0, 18.0, 100.0], [350.25, 359.25, 272.25, 271.25, 163.25], [None] * 5, metric="FID", best=9.0)
    assert [number for number in ("350.2", "359.2", "272.2", "271.2", "163.2") if number in drawn] == ["350.2", "272.2", "271.2", "163.2"]
    assert "3.5" in plots.curve([0.0], [3.5], [None], metric="FID", best=None)
