"""Processes that train one model together, started by torchrun: the first leads, the others do as it says.

Every process computes the gradients of its chunks of the batch; they are summed. What is random in a chunk depends on
the chunk and not on the process, so that any number of processes computes the same, up to the order of sums.
"""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Sequence

import torch
import torch.distributed as dist

# Loaded later, by the first optimiser, its functions' default arguments would keep the group alive for ever (see `leave`).
import torch.distributed.nn
from torch import Tensor

_PATIENCE = datetime.timedelta(days=30)
"""Followers wait for the next job for as long as that."""


class Team:
    """All processes, seen from one of them. Alone, nothing is sent."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size = rank, size
        self._device = device or torch.device("cpu")

    @classmethod
    def join(cls, device: torch.device) -> Team:
        """The team that torchrun's environment tells of; a team of one without it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), size, device)

    def leave(self) -> None:
        """Ends the team; the leader says so to the others."""
        if self.size > 1:
            self.say("quit")
            dist.destroy_process_group()
            # The group lies in a reference cycle, and only its destructor joins gloo's threads: one that still holds a tensor
            # when the interpreter ends aborts the process.
            gc.collect()

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for t, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            t.copy_(part.reshape(t.shape))

    def say(self, word: str, payload: bytes = b"") -> None:
        """The leader's word to the others; a follower, doing the same, says nothing."""
        if self.size > 1 and not self.rank:
            message = word.encode().ljust(4)[:4] + payload
            length = torch.tensor([len(message)], device=self._device)
            dist.broadcast(length, 0)
            dist.broadcast(torch.frombuffer(bytearray(message), dtype=torch.uint8).to(self._device), 0)

    def hear(self) -> tuple[str, bytes]:
        """Waits for the leader's next word."""
        length = torch.zeros(1, dtype=torch.long, device=self._device)
        dist.broadcast(length, 0)
        message = torch.empty(int(length), dtype=torch.uint8, device=self._device)
        dist.broadcast(message, 0)
        data = message.cpu().numpy().tobytes()
        return data[:4].decode().strip(), data[4:]
