"""What the processes beside the first do: join each fine-tuning that the first begins, until it leaves. Needs torch."""

from __future__ import annotations

import logging

import safetensors.torch
import torch
from cosmop_common.errors import StoppingError
from cosmop_common.settings import ConnectionSettings
from cosmop_vision.settings import VisionSettings

from cosmop_human_detector.corpus import gather
from cosmop_human_detector.data_versions import BlockingStore
from cosmop_human_detector.heads import Head
from cosmop_human_detector.learning import learn_network, load_network
from cosmop_human_detector.plan import Plan
from cosmop_human_detector.team import Team
from cosmop_human_detector.tuning import read_metadata

log = logging.getLogger(__name__)


def invite(team: Team, plan: Plan, head: Head, checkpoint: bytes | None) -> None:
    """The leader's word to all others: train this, from here."""
    if team.size > 1:
        tensors = {"head": torch.frombuffer(bytearray(head.to_bytes()), dtype=torch.uint8)}
        if checkpoint is not None:
            tensors["checkpoint"] = torch.frombuffer(bytearray(checkpoint), dtype=torch.uint8)
        team.say(safetensors.torch.save(tensors, metadata={"plan": plan.model_dump_json()}))


def follow(team: Team, settings: ConnectionSettings, vision: VisionSettings) -> None:
    """Joins fine-tunings until the leader leaves. The data must lie under the same paths as the leader's."""
    store = BlockingStore(settings)
    try:
        while message := team.hear():
            tensors = safetensors.torch.load(message)
            plan = Plan.model_validate_json(read_metadata(message)["plan"])
            corpus = gather(plan.data, store, plan.max_images)
            head = Head.from_bytes(tensors["head"].numpy().tobytes())
            checkpoint = tensors["checkpoint"].numpy().tobytes() if "checkpoint" in tensors else None
            try:
                learn_network(plan, corpus, team, load_network(plan, vision), head, checkpoint=checkpoint)
            except StoppingError:
                log.info("the leader stopped a training; waiting for the next")
    finally:
        store.close()
