"""PASS, CrowdHuman and folders as they are published: tiny, with what goes wrong in them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from cosmop_common.errors import RefusedImageError
from cosmop_common.settings import ConnectionSettings
from cosmop_human_detector.corpus import Corpus, gather, part_of
from cosmop_human_detector.data_crowdhuman import CrowdHumanSource, parse_line
from cosmop_human_detector.data_folder import FolderSource
from cosmop_human_detector.data_pass import PassSource
from cosmop_human_detector.data_versions import BlockingStore
from cosmop_human_detector.errors import TrainingDataError
from cosmop_human_detector.samples import Sample, choose, split_spec
from human_detector_world import PERSON, jpeg, write_crowdhuman, write_pass


def listed(source) -> list[Sample]:
    return list(source.samples())


def test_pass_is_read_in_place_from_all_its_parts(tmp_path: Path) -> None:
    source = PassSource(write_pass(tmp_path / "pass", parts=11, each=1))
    samples = listed(source)
    # Part 10 comes after part 9, not after part 1.
    assert [source.read(s) for s in samples] == [jpeg(i) for i in range(11)]
    assert not any(s.people for s in samples)
    assert samples[0].group == samples[1].group != samples[2].group
    assert not source.left_out
    assert [s.name for s in listed(PassSource(tmp_path / "pass" / "PASS.3.tar"))] == [samples[3].name]


def test_a_part_that_is_still_coming_gives_its_whole_images(tmp_path: Path) -> None:
    folder = write_pass(tmp_path / "pass")
    whole = (folder / "PASS.1.tar").read_bytes()
    with tarfile.open(folder / "PASS.1.tar") as archive:
        last = archive.getmembers()[-1]
    for cut in (last.offset_data + 10, last.offset + 100, last.offset):
        (folder / "PASS.1.tar").write_bytes(whole[:cut])
        source = PassSource(folder)
        assert len(listed(source)) == 5
        assert source.left_out["damaged_part"] == (cut != last.offset)


def test_a_damaged_header_ends_its_part_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_pass(tmp_path / "pass")
    data = bytearray((folder / "PASS.0.tar").read_bytes())
    with tarfile.open(folder / "PASS.0.tar") as archive:
        middle = archive.getmembers()[2]
    data[middle.offset : middle.offset + 200] = b"\xff" * 200
    (folder / "PASS.0.tar").write_bytes(data)
    source = PassSource(folder)
    assert [s.name.partition("/")[0] for s in listed(source)] == ["PASS.0.tar"] + ["PASS.1.tar"] * 3
    assert source.left_out == {"damaged_part": 1}
    assert "download it again" in caplog.text


def test_pass_without_its_table_has_no_groups_and_another_table_is_refused(tmp_path: Path) -> None:
    folder = write_pass(tmp_path / "pass")
    (folder / "pass_metadata.csv").unlink()
    assert len({s.group for s in listed(PassSource(folder))}) == 6
    (folder / "pass_metadata.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TrainingDataError, match="hash and unickname"):
        listed(PassSource(folder))
    with pytest.raises(TrainingDataError, match="leave them packed"):
        PassSource(tmp_path)


def test_crowdhuman_gives_people_their_number_and_size(tmp_path: Path) -> None:
    small = PERSON | {"vbox": [40, 10, 5, 9]}
    ignored = PERSON | {"vbox": [0, 0, 64, 48], "extra": {"ignore": 1}}
    lines = [
        {"ID": "1,a", "gtboxes": [small, PERSON, ignored]},
        {"ID": "1,b", "gtboxes": [{k: v for k, v in small.items() if k not in {"extra", "head_attr"}}]},
    ]
    archives = {"CrowdHuman_train01.zip": {"1,a": jpeg(1)}, "CrowdHuman_train02.zip": {"1,b": jpeg(2), "1,unannotated": jpeg(3)}}
    source = CrowdHumanSource(write_crowdhuman(tmp_path, archives, lines))
    first, second = listed(source)
    assert all(s.people for s in (first, second))
    assert [len(s.boxes) for s in (first, second)] == [2, 1]
    assert first.largest is not None
    assert (first.largest.width, first.largest.height) == (20, 50)
    assert [source.read(s) for s in (first, second)] == [jpeg(1), jpeg(2)]
    assert not source.left_out


def test_crowdhuman_leaves_out_what_is_only_ignored_missing_or_in_a_broken_zip(tmp_path: Path) -> None:
    mask = PERSON | {"tag": "mask"}
    ignored = PERSON | {"extra": {"ignore": 1, "box_id": 1}}
    boxes = {"a": [PERSON], "only": [mask, ignored], "empty": [], "absent": [PERSON], "broken": [PERSON]}
    images = {name: jpeg(i) for i, name in enumerate(boxes) if name != "absent"}
    folder = write_crowdhuman(tmp_path, {"CrowdHuman_train01.zip": images}, [{"ID": k, "gtboxes": v} for k, v in boxes.items()])
    archive = folder / "CrowdHuman_train01.zip"
    at = archive.read_bytes().index(images["broken"])
    archive.write_bytes(archive.read_bytes()[: at + 40] + b"\0\0\0\0" + archive.read_bytes()[at + 44 :])
    (folder / "CrowdHuman_train02.zip").write_bytes(b"half a zip")
    source = CrowdHumanSource(folder)
    samples = {s.name: s for s in listed(source)}
    assert set(samples) == {"Images/a.jpg", "Images/broken.jpg"}
    assert source.left_out == {"only_ignored": 2, "missing": 1, "damaged_archive": 1}
    with pytest.raises(RefusedImageError, match="Bad CRC"):
        source.read(samples["Images/broken.jpg"])
    assert source.read(samples["Images/a.jpg"]) == images["a"]


@pytest.mark.parametrize("line", ["{", "[]", '{"gtboxes": []}', '{"ID": "a", "gtboxes": [{"tag": "person"}]}'])
def test_a_line_that_is_no_annotation_is_named(line: str) -> None:
    with pytest.raises(TrainingDataError, match=r"train\.odgt:7"):
        parse_line(line, "train.odgt:7")


def test_a_folder_of_subfolders_is_labelled_by_them(tmp_path: Path) -> None:
    for i, name in enumerate(("human/a.jpg", "human/deep/b.PNG", "no_human/c.jpg")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(i))
    (tmp_path / "human" / "notes.txt").write_text("no image")
    source = FolderSource(tmp_path)
    assert [(s.name, s.people) for s in listed(source)] == [("human/a.jpg", True), ("human/deep/b.PNG", True), ("no_human/c.jpg", False)]
    assert source.read(listed(source)[1]) == jpeg(1)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("pass:/a", ("pass", "/a")),
        ("/plain/path", ("folder", "/plain/path")),
        ("dataset:c/v?people=a", ("dataset", "c/v?people=a")),
        ("./x:y", ("folder", "./x:y")),
    ],
)
def test_a_string_names_data(spec: str, parts: tuple[str, str]) -> None:
    assert split_spec(spec) == parts


@pytest.mark.parametrize("spec", ["", "pass:", "coco:/data", "dataset:"])
def test_a_string_that_names_no_data_is_refused(spec: str) -> None:
    with pytest.raises(TrainingDataError, match=r"expected|give"):
        split_spec(spec)


def sample(i: int, people: bool) -> Sample:
    return Sample(f"{i}", people, "s", f"{i}", f"{i}")


def test_a_choice_is_the_same_whatever_the_order_and_grows_with_its_limit() -> None:
    samples = [sample(i, i % 3 == 0) for i in range(300)]
    few, more = choose(samples, 20), choose(reversed(samples + samples), 40)
    assert few == choose(reversed(samples), 20)
    assert set(few) < set(more)
    assert [sum(s.people == kind for s in more) for kind in (True, False)] == [40, 40]
    assert len(choose(samples + samples, 0)) == 300


def test_a_corpus_joins_sources_and_parts_no_group(tmp_path: Path) -> None:
    write_crowdhuman(
        tmp_path / "crowd", {"CrowdHuman_train01.zip": {f"{i}": jpeg(100 + i) for i in range(40)}}, [{"ID": f"{i}", "gtboxes": [PERSON]} for i in range(40)]
    )
    write_pass(tmp_path / "pass", parts=2, each=20)
    store = BlockingStore(ConnectionSettings())
    corpus: Corpus = gather([f"pass:{tmp_path / 'pass'}", f"crowdhuman:{tmp_path / 'crowd'}"], store)
    assert [sum(s.people == kind for s in corpus.samples) for kind in (True, False)] == [40, 40]
    parts = {name: corpus.part(name) for name in ("train", "val", "held_out")}
    assert sum(map(len, parts.values())) == 80
    assert len({s.group for s in corpus.samples}) == 60
    for name, members in parts.items():
        assert {part_of(s.group) for s in members} == {name}
    person = next(s for s in corpus.samples if s.people)
    corpus.read(person)
    assert list(corpus.digests) == [person.identity]
    with pytest.raises(TrainingDataError, match="no image with people"):
        gather([f"pass:{tmp_path / 'pass'}"], store)
    with pytest.raises(TrainingDataError, match="does not exist on the machine"):
        gather(["folder:/nowhere"], store)
