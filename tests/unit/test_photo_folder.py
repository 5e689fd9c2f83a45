"""Folders of photos as users have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosmop_console.photo_folder import PhotoFolder, PhotoFolderError


def folder(tmp_path: Path, labels: str | None = None, files: tuple[str, ...] = ("a/1.jpg", "b.png")) -> Path:
    path = tmp_path / "My Photos"
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    if labels is not None:
        path.mkdir(exist_ok=True)
        (path / "labels.csv").write_text(labels)
    return path


def test_images_are_found_anywhere_below(tmp_path: Path) -> None:
    found = PhotoFolder.read(folder(tmp_path, files=("a/1.jpg", "b.PNG", "notes.txt")))
    assert [p.name for p in found.files] == ["1.jpg", "b.PNG"]
    assert found.labels is None
    assert found.name == "my-photos"


def test_classes_come_from_the_labels_and_the_concept_is_not_the_rest(tmp_path: Path) -> None:
    found = PhotoFolder.read(folder(tmp_path, "file,label,concept\na/1.jpg,human,other\nb.png,human,dance\n"))
    collection = found.collection()
    assert set(collection.classes) == {"other", "dance"}
    assert collection.positive == "dance"


def test_without_labels_there_are_classes_to_label_with(tmp_path: Path) -> None:
    collection = PhotoFolder.read(folder(tmp_path)).collection()
    assert collection.positive in collection.classes


def test_a_line_that_names_no_file_is_told_and_stops_nothing(tmp_path: Path) -> None:
    found = PhotoFolder.read(folder(tmp_path, "file,concept\nmissing.jpg,dance\nb.png,dance\n"))
    assert found.concepts == ("dance",)
    assert len(found.missing) == 1
    assert "line 2" in found.missing[0]
    assert "missing.jpg" in found.missing[0]


@pytest.mark.parametrize(("labels", "message"), [("name,concept\nb.png,x\n", "no column 'file'"), ("\xff\xfe", "")])
def test_labels_that_cannot_be_read_are_named(tmp_path: Path, labels: str, message: str) -> None:
    path = folder(tmp_path)
    (path / "labels.csv").write_bytes(labels.encode("latin-1"))
    with pytest.raises(PhotoFolderError, match=r"labels\.csv") as error:
        PhotoFolder.read(path)
    assert message in str(error.value)


def test_no_folder_and_no_images_say_so(tmp_path: Path) -> None:
    with pytest.raises(PhotoFolderError, match="is no folder"):
        PhotoFolder.read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoFolderError, match="holds no images"):
        PhotoFolder.read(tmp_path / "empty")


def test_a_changed_folder_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path).relative_to(tmp_path)
    first, second = PhotoFolder.read(path), PhotoFolder.read(path)
    collection = first.collection()
    assert first.fingerprint(collection) == second.fingerprint(collection)
    (path / "c.jpg").write_bytes(b"new")
    assert PhotoFolder.read(path).fingerprint(collection) != first.fingerprint(collection)
    stricter = collection.model_copy(update={"title": "another"})
    assert first.fingerprint(stricter) != first.fingerprint(collection)
