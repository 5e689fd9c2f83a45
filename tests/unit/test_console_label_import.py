"""``labels.csv``: files become images by their bytes; what cannot be used is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosmop_common.names import sha256_hex
from cosmop_console.label_import import LabelFileError, read_folder


def folder(tmp_path: Path, csv: str, **files: bytes) -> Path:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "labels.csv").write_text(csv, encoding="utf-8")
    return tmp_path


def test_files_become_images_and_unlabelled_ones_are_passed_over(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, "file,label,concept\na,human,yes\nb,human,\n", a=b"1", b=b"2"))
    assert [(x.file, x.image, x.label) for x in found.labels] == [("a", sha256_hex(b"1"), "yes")]
    assert found.refused == []


def test_the_same_bytes_said_twice_are_one_label_and_contradictions_none(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, "file,concept\na,yes\nb,yes\nc,yes\nd,no\n", a=b"1", b=b"1", c=b"2", d=b"2"))
    assert [x.file for x in found.labels] == ["a"]
    assert found.refused == ["c, d: the same bytes are labelled no and yes; correct the file"]


def test_missing_files_and_files_outside_are_refused_one_by_one(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    found = read_folder(folder(inside, "file,concept\nnone.jpg,yes\n../secret,yes\n"))
    assert found.labels == []
    assert [line.split(":")[0] for line in found.refused] == ["none.jpg", "../secret"]


def test_a_file_without_the_columns_says_which_are_missing(tmp_path: Path) -> None:
    with pytest.raises(LabelFileError, match="concept"):
        read_folder(folder(tmp_path, "file,label\na,human\n", a=b"1"))
    with pytest.raises(LabelFileError, match="cannot be read"):
        read_folder(tmp_path / "nothing.csv")
