"""2N steps are N, a checkpoint, and N more: tensor for tensor, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cosmop_gan_trainer.config import RunConfig
from cosmop_gan_trainer.data import Images, TrainingSet
from cosmop_gan_trainer.errors import DamagedCheckpointError, TooFewImagesError
from cosmop_gan_trainer.presets import configure
from cosmop_gan_trainer.schedule import Schedule
from cosmop_gan_trainer.session import Due, Session

CPU = torch.device("cpu")
OPTIONS = {
    "batch": "8", "z_dim": "16", "w_dim": "16", "mapping_layers": "2", "channel_base": "128", "channel_max": "16", "ema_ramp": "0.05",
    "ada_kimg": "10", "ada_target": "0", "path_length_weight": "2", "path_length_interval": "2", "r1_interval": "3", "minibatch_group": "4", "mirror": "true",
}  # fmt: skip


def config(**options: str) -> RunConfig:
    return configure("auto", 16, seed=3, options=OPTIONS | options)


def data(run: RunConfig, classes: int = 0) -> TrainingSet:
    rng = np.random.default_rng(0)
    images = Images(16, [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(21)], [k % max(classes, 1) for k in range(21)])
    return TrainingSet(images, batch=run.train.batch, classes=classes, mirror=run.train.mirror, seed=run.train.seed, device=CPU)


def session(run: RunConfig, classes: int = 0) -> Session:
    return Session.start(run, data(run, classes), Schedule(1, 1), CPU)


def steps(s: Session, count: int) -> None:
    for _ in range(count):
        s.trainer.step()


@pytest.mark.parametrize("options", [{}, {"ada_target": "0.6"}, {"loss": "r3gan"}, {"precision": "bf16", "style_mixing": "0"}])
def test_a_resumed_run_equals_one_that_never_stopped(options: dict[str, str]) -> None:
    run = config(**options)
    whole = session(run)
    steps(whole, 4)
    if whole.config.train.ada_target:
        whole.trainer.controller.p = whole.trainer.augment.p = 0.5  # so that augmentation's randomness counts too
    saved = whole.save()
    steps(whole, 5)
    assert bool(whole.trainer.augment.p) is bool(whole.config.train.ada_target)
    torch.manual_seed(12345)  # another process has another history
    resumed = session(run)
    resumed.load(saved)
    steps(resumed, 5)
    (expected, numbers), (found, found_numbers) = whole.trainer.state(), resumed.trainer.state()
    assert numbers == found_numbers
    assert expected.keys() == found.keys()
    different = [k for k in expected if not torch.equal(expected[k], found[k])]
    assert not different
    assert whole.trainer.finite()


def test_drawing_a_snapshot_leaves_training_untouched() -> None:
    run = config()
    plain, watched = session(run), session(run)
    torch.manual_seed(1)
    steps(plain, 3)
    torch.manual_seed(1)
    steps(watched, 1)
    watched.draw(10)
    watched.save()
    steps(watched, 2)
    assert all(torch.equal(a, b) for a, b in zip(plain.trainer.state()[0].values(), watched.trainer.state()[0].values(), strict=True))


def test_a_checkpoint_of_other_settings_or_damaged_bytes_is_refused() -> None:
    saved = session(config()).save()
    with pytest.raises(DamagedCheckpointError, match="other settings"):
        session(config(batch="4")).load(saved)
    with pytest.raises(DamagedCheckpointError):
        session(config()).load(saved[: len(saved) // 2])


def test_training_pauses_for_what_is_due() -> None:
    run = config(checkpoint_seconds="1000")
    s = Session.start(run, data(run), Schedule(0.04, 2), CPU)
    seen = []
    while not s.ended:
        due = s.advance(lambda: False, lambda _: None)
        seen.append(due)
        s.take()
    assert seen == [Due.SNAPSHOT] * 3
    assert s.taken == [0, 0.024, 0.04]
    assert s.ended == "kimg reached"
    assert s.draw(5).samples[0][0] == "000000000.png"
    interrupted = Session.start(config(initial_snapshot="false"), data(run), Schedule(1, 1), CPU)
    assert interrupted.advance(lambda: True, lambda _: None) is Due.INTERRUPTED


def test_a_weight_that_is_not_finite_is_a_collapse() -> None:
    run = config(initial_snapshot="false")
    s = Session.start(run, data(run), Schedule(0.008, 1), CPU)
    with torch.no_grad():
        next(s.trainer.discriminator.parameters()).fill_(float("nan"))
    assert s.advance(lambda: False, lambda _: None) is Due.COLLAPSED
    assert "not finite" in s.ended


def test_conditional_training_steps() -> None:
    base = config()
    run = base.model_copy(update={"network": base.network.model_copy(update={"classes": ("a", "b", "c")})})
    s = session(run, classes=3)
    steps(s, 2)
    assert s.trainer.finite()
    assert s.trainer.generator.mapping.embed is not None


def test_the_order_of_images_is_a_function_of_position() -> None:
    run = config()
    first, second = data(run), data(run)
    epoch = torch.cat([first.draw(k, 6)[0] for k in range(0, 42, 6)])
    second.draw(300, 6)
    assert torch.equal(torch.cat([second.draw(k, 7)[0] for k in range(0, 42, 7)]), epoch)
    # Each image once as it is and once mirrored.
    pixels = {tuple(i.flatten().tolist()) for i in epoch}
    assert len(pixels) == 42
    assert all(tuple(i.flip(2).flatten().tolist()) in pixels for i in epoch)


def test_fewer_images_than_a_batch_are_refused_with_the_cure() -> None:
    images = Images(16)
    images.add("broken.jpg", b"nothing")
    with pytest.raises(TooFewImagesError, match=r"0 usable images.*broken\.jpg"):
        TrainingSet(images, batch=8, classes=0, mirror=False, seed=0, device=CPU)
