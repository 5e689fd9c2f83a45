"""Processes that train one network together, started by torchrun: the first leads, the others do as it says.

Each process computes the gradients of its share of every batch; they are summed, so that any number of processes takes the same steps,
up to the order of sums.
"""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Iterable

import torch
import torch.distributed as dist

# Loaded later, by the first optimiser, its functions' default arguments would keep the group alive for ever (see `leave`).
import torch.distributed.nn
from torch import Tensor

#: Followers wait for the next job for as long as that.
_PATIENCE = datetime.timedelta(days=30)


class Team:
    """All processes, seen from one of them. Alone, nothing is sent."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        """A team of one by default; ``join`` finds the others."""
        self.rank, self.size = rank, size
        self.device = device or torch.device("cpu")

    @classmethod
    def join(cls, device: torch.device) -> Team:
        """The team that torchrun's environment tells of; a team of one without it. On CUDA each process takes a device of its own."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        if size == 1:
            return cls(device=device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), size, device)

    def leave(self) -> None:
        """Ends the team; the leader says so to the others."""
        if self.size > 1:
            self.say(b"")
            dist.destroy_process_group()
            # The group lies in a reference cycle, and only its destructor joins gloo's threads: one that still holds a tensor
            # when the interpreter ends aborts the process.
            gc.collect()

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for t, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            t.copy_(part.reshape(t.shape))

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        told = torch.tensor([float(flag)], device=self.device)
        self.sum([told])
        return bool(told.item())

    def say(self, message: bytes) -> None:
        """The leader's word to the others; a follower, doing the same, says nothing."""
        if self.size > 1 and not self.rank:
            dist.broadcast(torch.tensor([len(message)], device=self.device), 0)
            if message:
                dist.broadcast(torch.frombuffer(bytearray(message), dtype=torch.uint8).to(self.device), 0)

    def hear(self) -> bytes:
        """Waits for the leader's next word; an empty one ends the team."""
        length = torch.zeros(1, dtype=torch.long, device=self.device)
        dist.broadcast(length, 0)
        if not int(length):
            return b""
        message = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(message, 0)
        return message.cpu().numpy().tobytes()
