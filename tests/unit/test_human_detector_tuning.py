"""Fine-tuning: it learns, it is interrupted and ends with the same bits, two processes take the steps of one, every network takes part."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cosmop_common.errors import StoppingError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.settings import ConnectionSettings
from cosmop_human_detector import tuned
from cosmop_human_detector.corpus import Corpus, gather
from cosmop_human_detector.curves import Epoch, to_json, to_svg
from cosmop_human_detector.data_versions import BlockingStore
from cosmop_human_detector.epoch_order import epoch_order
from cosmop_human_detector.errors import CheckpointError, TrainingDataError
from cosmop_human_detector.follow import follow, invite
from cosmop_human_detector.heads import Head
from cosmop_human_detector.learning import Learnt, blank_head, first_head, learn_network, load_network
from cosmop_human_detector.measures import measure
from cosmop_human_detector.pictures import Pictures, augmented
from cosmop_human_detector.plan import Plan
from cosmop_human_detector.samples import Sample
from cosmop_human_detector.settings import Settings
from cosmop_human_detector.team import Team
from cosmop_human_detector.tunable_filter import TunableFilter
from cosmop_human_detector.tuning import Hooks, Tuner
from cosmop_local.servers import free_ports
from cosmop_vision.errors import UnknownNetworkError, WeightsUnavailableError
from cosmop_vision.preprocess import Preprocessing
from cosmop_vision.settings import VisionSettings
from human_detector_world import scene, write_world
from PIL import Image

#: Its trainings take a minute on two quiet cores.
pytestmark = pytest.mark.timeout(1800)
CPU = torch.device("cpu")


def plan_of(folder: Path, **changes: object) -> Plan:
    return Plan(**({"data": (str(folder),), "size": 64, "epochs": 2, "batch": 8} | changes))


def corpus_of(plan: Plan) -> Corpus:
    return gather(plan.data, BlockingStore(ConnectionSettings()), plan.max_images)


def learn(plan: Plan, hooks: Hooks | None = None, checkpoint: bytes | None = None, team: Team | None = None) -> Learnt | None:
    corpus, network = corpus_of(plan), load_network(plan, VisionSettings())
    head = first_head(plan, corpus, network, CPU, lambda _n: None) if checkpoint is None else blank_head(plan)
    team = team or Team()
    invite(team, plan, head, checkpoint)
    return learn_network(plan, corpus, team, network, head, checkpoint=checkpoint, hooks=hooks)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def learnt(world: Path) -> Learnt:
    found = learn(plan_of(world))
    assert found is not None
    return found


def stop_after(calls: int) -> Callable[[], None]:
    left = [calls]

    def check() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise StoppingError("told to stop")

    return check


def test_fine_tuning_learns_and_its_file_scores_as_the_network_did(world: Path, learnt: Learnt, tmp_path: Path) -> None:
    assert learnt.metrics["held_out"]["auroc"].value > 0.9
    assert learnt.epochs[2].train_loss < 0.5 * learnt.epochs[1].train_loss
    assert learnt.best_epoch == min((1, 2), key=lambda i: learnt.epochs[i].val_loss)
    assert all(len(digest) == 64 for digest in learnt.fitted_on)
    assert not set(learnt.fitted_on) & {s.identity for s in learnt.held_out}
    (tmp_path / "n.onnx").write_bytes(learnt.network)
    served = tuned.detector(Head.from_bytes(learnt.head.to_bytes()), tmp_path / "n.onnx", VisionSettings())
    corpus = corpus_of(plan_of(world))
    scores = served.scores(np.stack([served.prepare(corpus.read(s)) for s in learnt.held_out]))
    again = measure(scores, np.array([s.people for s in learnt.held_out]), learnt.threshold.value)
    assert again == learnt.metrics["held_out"]


def test_a_training_interrupted_twice_ends_with_the_same_bits(world: Path, learnt: Learnt) -> None:
    saved: list[bytes] = []
    with pytest.raises(StoppingError):
        learn(plan_of(world), Hooks(check=stop_after(7), save=saved.append))
    with pytest.raises(CheckpointError, match="other settings"):
        learn(plan_of(world, seed=1), checkpoint=saved[-1])
    with pytest.raises(CheckpointError):
        learn(plan_of(world), checkpoint=saved[-1][:-50])
    with pytest.raises(StoppingError):
        learn(plan_of(world), Hooks(check=stop_after(14), save=saved.append), checkpoint=saved[-1])
    again = learn(plan_of(world), checkpoint=saved[-1])
    assert again is not None
    assert again.head.to_bytes() == learnt.head.to_bytes()
    assert again.network == learnt.network
    assert again.epochs == learnt.epochs
    assert (again.threshold, again.fitted_on) == (learnt.threshold, learnt.fitted_on)


def lead(folder: str, path: str) -> None:
    """The leader's process."""
    team = Team.join(CPU)
    found = learn(plan_of(Path(folder)), team=team)
    torch.save({"weight": torch.from_numpy(found.head.weight), "losses": [e.val_loss for e in found.epochs], "threshold": found.threshold.value}, path)
    leave(team)


def join() -> None:
    team = Team.join(CPU)
    follow(team, ConnectionSettings(), VisionSettings())
    leave(team)


def leave(team: Team) -> None:
    """No thread of the group outlives it: one that did could abort the process at its end."""
    team.leave()
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # another thread may end in this moment
            names.append((task / "comm").read_text().strip())
    assert not [name for name in names if "gloo" in name]


def test_two_processes_equal_one(world: Path, learnt: Learnt, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    path = tmp_path / "state.pt"
    base = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    here = Path(__file__).parent
    code = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]; import test_human_detector_tuning as t; "
    calls = (f"t.lead({str(world)!r}, {str(path)!r})", "t.join()")
    processes = [subprocess.Popen([sys.executable, "-c", code + call], env=base | {"RANK": str(rank)}) for rank, call in enumerate(calls)]
    try:
        assert [p.wait(timeout=500) for p in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    together = torch.load(path, weights_only=True)
    # AdamW makes a whole step of a gradient that is nothing but rounding errors, and these differ between CPUs.
    assert torch.allclose(together["weight"], torch.from_numpy(learnt.head.weight), atol=1e-2)
    assert together["losses"] == pytest.approx([e.val_loss for e in learnt.epochs], abs=0.01)


@pytest.mark.parametrize("network", ["resnet50", "resnext101_32x8d"])
def test_every_network_takes_a_step_from_random_weights(world: Path, network: str) -> None:
    """The paper's network and its smaller sister, whose weights cannot be had everywhere: the same way through."""
    tuner = few_steps(plan_of(world, network=network, size=32, batch=2, from_scratch=True, epochs=1), 1)
    assert len(tuner.epochs) == 2
    assert all(np.isfinite([e.val_loss for e in tuner.epochs]))
    assert tuner.epochs[0].val_loss != tuner.epochs[1].val_loss


def few_steps(plan: Plan, of_each: int) -> Tuner:
    """An epoch of a few images, from a head of small random weights."""
    corpus, backbone = corpus_of(plan), load_network(plan, VisionSettings())
    with Pictures(corpus, Preprocessing.of(backbone.network, size=plan.size, fit="stretch")) as pictures:
        tuner = Tuner(TunableFilter(backbone, blank_head(plan)), plan, _few(corpus, of_each), _few(corpus, 2), pictures)
        tuner.model.weight.data.copy_(0.01 * torch.randn(len(tuner.model.weight), generator=torch.Generator().manual_seed(0)))
        tuner.run()
    return tuner


def _few(corpus: Corpus, of_each: int) -> list[Sample]:
    whole = [s for s in corpus.samples if "damaged" not in s.name]
    return [s for kind in (True, False) for s in [w for w in whole if w.people == kind][:of_each]]


def test_weights_that_cannot_be_had_are_a_typed_error_with_the_cure(world: Path, tmp_path: Path) -> None:
    settings = VisionSettings(cache_dir=tmp_path, weights_mirror="http://127.0.0.1:1", weights_seconds=1)
    with pytest.raises(WeightsUnavailableError, match="COSMOP_WEIGHTS_DIR"):
        load_network(plan_of(world, network="resnext101_32x8d"), settings)


def test_half_precision_takes_nearly_the_same_step(world: Path) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        tuner = few_steps(plan_of(world, precision=precision, epochs=1), 4)
        losses.append([tuner.epochs[1].train_loss, tuner.epochs[1].val_loss])
    assert losses[1] == pytest.approx(losses[0], abs=0.1)  # bf16 is summed otherwise on each kind of CPU
    assert losses[1] != losses[0]


def sample(i: int, people: bool) -> Sample:
    return Sample(f"{i}", people, "s", f"{i}", f"{i}")


def test_an_epoch_balances_the_kinds_and_walks_through_the_larger() -> None:
    samples = [sample(i, i < 10) for i in range(45)]
    epochs = [epoch_order(samples, 0, number) for number in (1, 2, 3, 4)]
    for drawn in epochs:
        assert sum(s.people for s in drawn) == 10
        assert len(drawn) == 20
    assert len({s.name for drawn in epochs for s in drawn if not s.people}) == 35
    assert epochs[0] == epoch_order(samples, 0, 1) != epoch_order(samples, 1, 1)


def test_an_image_is_augmented_by_seed_epoch_and_itself_alone() -> None:
    image = Image.open(io.BytesIO(scene(3, figure=True))).convert("RGB")
    assert augmented(image, "a", 0, 1).tobytes() == augmented(image, "a", 0, 1).tobytes()
    assert len({augmented(image, name, 0, epoch).tobytes() for name in "ab" for epoch in (1, 2)}) == 4
    assert min(augmented(image, "a", 0, epoch).width for epoch in range(20)) >= 0.79 * image.width


def test_curves_are_numbers_and_a_plot() -> None:
    epochs = [Epoch(None, 0.7, 0.6), Epoch(0.5, 0.4, 0.9)]
    assert b'"train_loss": [\n  null,\n  0.5' in to_json(epochs)
    svg = to_svg(epochs).decode()
    assert svg.count("<circle") == 5
    assert to_svg(epochs[:1])
    with pytest.raises(TrainingDataError, match="both kinds"):
        Epoch.measure(np.array([0.5]), np.array([True]), None)


def test_a_version_names_images_labels_and_settings_wherever_they_lie() -> None:
    samples = [sample(i, i < 3) for i in range(6)]
    plan = Plan(data=("/a",))
    assert plan.version(samples) == Plan(data=("pass:/b",), max_images=5).version(reversed(samples))
    others = [plan.version(samples[:5]), plan.version([sample(i, i < 2) for i in range(6)])]
    others += [p.version(samples) for p in (Plan(data=("/a",), epochs=1), Plan(data=("/a",), miss_rate=0.1), Plan(data=("/a",), network="resnet50"))]
    assert len({plan.version(samples), *others}) == 6


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({}, "train.data"),
        ({"data": ["coco:/x"]}, "expected pass"),
        ({"data": ["/x"], "precision": "fp8"}, "train.precision"),
        ({"data": ["/x"], "miss_rate": 2}, "train.miss_rate"),
        ({"data": ["/x"], "size": 100}, "multiples of 32"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_with_its_field(job: dict, message: str) -> None:
    with pytest.raises(TrainingDataError, match=message):
        Plan.of(runs_pb2.TrainHumanDetectorJob(**job), Settings())


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UnknownNetworkError, match="resnet50"):
        Plan.of(runs_pb2.TrainHumanDetectorJob(data=["/x"], network="vgg"), Settings())


def test_too_few_images_for_three_parts_are_refused_with_the_cure(tmp_path: Path) -> None:
    plan = plan_of(write_world(tmp_path, 20))
    with pytest.raises(TrainingDataError, match="epochs 0"):
        first_head(plan, corpus_of(plan), load_network(plan, VisionSettings()), CPU, lambda _n: None)
