"""The paper's own figures, as it prints them: what a report puts beside ours, labelled as such.

Source: S. Varghese, X. Liu, S. Villarreal, "COSMOP: synthesise a quasi-realistic immigration dataset using GAN", University of Houston:
section III for the funnel and the human filter, Table I, Table II, Figure 6 and its text, Figure 8 and its text.
"""

from __future__ import annotations

from typing import Any

#: Keys as in ``report.json``.
FIGURES: dict[str, Any] = {
    "source": "S. Varghese, X. Liu, S. Villarreal: COSMOP: synthesise a quasi-realistic immigration dataset using GAN (University of Houston)",
    "funnel": {"collected": 22000, "relevant": 5094, "labelled": {"immigration": 2272, "non-immigration": 2822}},
    "human_filter": {"accuracy": 0.90},
    "table_1": [{"kimg": 0.0, "fid": 207.25}, {"kimg": 10000.0, "fid": 46.06}, {"kimg": 15000.0, "fid": 127.72}],
    "table_2": {"train": {"immigration": 1357, "non-immigration": 2100}, "test": {"immigration": 340, "non-immigration": 526}},
    "performance": {
        "binary": {"precision": 0.79, "recall": 0.71, "accuracy": 0.81},
        "one_class": {"precision": 0.33, "recall": 0.75, "accuracy": 0.31},
    },
    "synthetic": {"total": 2276, "positive": 1605},
}

#: What each of the paper's kilo-image points was, in its words.
TABLE_1_NOTES = {0.0: "untrained", 10000.0: "minimum", 15000.0: "mode collapse"}
