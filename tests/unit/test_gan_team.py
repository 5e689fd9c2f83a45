"""Several processes, or one in several chunks, train as one: the same batch gives the same weights."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.data import Images, TrainingSet
from cosmop_gan_trainer.errors import TrainerOptionError
from cosmop_gan_trainer.presets import configure
from cosmop_gan_trainer.schedule import Schedule
from cosmop_gan_trainer.session import Session
from cosmop_gan_trainer.team import Team
from cosmop_local.servers import free_ports

CPU = torch.device("cpu")
STEPS = 4


def config(**options: str) -> RunConfig:
    small = {
        "precision": "fp32",
        "batch": "8",
        "z_dim": "8",
        "w_dim": "8",
        "channel_base": "64",
        "channel_max": "8",
        "path_length_interval": "2",
        "r1_interval": "2",
    }
    return configure("auto", 16, options=small | options)


def session(run: RunConfig, team: Team | None = None) -> Session:
    rng = np.random.default_rng(0)
    images = Images(16, [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(12)], [0] * 12)
    made = Session.start(run, TrainingSet.build(images, run, CPU), Schedule(1, 1), CPU, team)
    made.trainer.controller.p = made.trainer.augment.p = 0.0
    return made


def train(made: Session) -> dict[str, torch.Tensor]:
    for _ in range(STEPS):
        made.trainer.step()
    return made.trainer.state()[0]


def lead(path: str) -> None:
    """The leader's process: half a run, a state loaded everywhere, the other half."""
    team = Team.join(CPU)
    first = session(config(), team)
    first.trainer.step()
    saved = first.save()
    second = session(config(), team)
    second.load(saved)
    for _ in range(STEPS - 1):
        second.trainer.step()
    torch.save(second.trainer.state()[0], path)
    leave(team)


def follow() -> None:
    from cosmop_gan_trainer.follow import follow as follow_leader

    team = Team.join(CPU)
    follow_leader(team, CPU)
    leave(team)


def leave(team: Team) -> None:
    """No thread of the group outlives it: one that did could abort the process at its end."""
    team.leave()
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # another thread may end in this moment
            names.append((task / "comm").read_text().strip())
    assert not [name for name in names if "gloo" in name]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    path = tmp_path / "state.pt"
    base = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_gan_team as t; "
    processes = [
        subprocess.Popen([sys.executable, "-c", code + call], env=base | {"RANK": str(rank)})
        for rank, call in enumerate((f"t.lead({str(path)!r})", "t.follow()"))
    ]
    try:
        assert [p.wait(timeout=500) for p in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    together = torch.load(path, weights_only=True)
    alone = train(session(config(chunk="4")))
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        # On average: Adam makes a whole step of a gradient that is nothing but rounding errors, and these differ between CPUs.
        difference = (together[name].double() - value.double()).abs().mean()
        assert float(difference) <= 1e-5 * (1 + float(value.double().abs().mean())), name


def test_chunks_of_a_batch_differ_from_it_only_by_what_they_draw() -> None:
    """Each chunk has random numbers of its own; the data are the same, and all of it counts."""
    made = session(config(chunk="4"))
    assert (made.trainer.chunk, made.trainer.chunks) == (4, 2)
    seen = [made.trainer.data.draw(made.trainer.images + c * 4, 4)[0] for c in range(2)]
    assert torch.equal(torch.cat(seen), made.trainer.data.draw(0, 8)[0])
    state = train(made)
    assert all(bool(torch.isfinite(v).all()) for v in state.values())


@pytest.mark.parametrize(("chunk", "size"), [("3", 1), ("8", 2)])
def test_chunks_that_do_not_fit_are_refused(chunk: str, size: int) -> None:
    with pytest.raises(TrainerOptionError, match="chunk"):
        session(config(chunk=chunk, minibatch_group="4"), Team(0, size))
