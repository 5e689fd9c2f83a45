"""A network and its head as one module, to be fine-tuned. Needs torch."""

from __future__ import annotations

import math

import numpy as np
import torch
from cosmop_vision.modules import Backbone
from torch import Tensor, nn
from torch.nn import functional

from cosmop_human_detector.heads import Head


class TunableFilter(nn.Module):
    """A network and its head: images (N x 3 x S x S) to logits (N)."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        """Copies the head; the backbone is changed in place by training."""
        super().__init__()
        self.backbone, self.shape = backbone, head.shape
        self.weight = nn.Parameter(torch.from_numpy(head.weight.copy()))
        self.bias = nn.Parameter(torch.tensor(head.bias))

    def forward(self, images: Tensor) -> Tensor:
        """As ``Head.scores``, before the logistic function: windows' means of the cells' logits, joined by a soft maximum."""
        _, maps = self.backbone(images)
        cells = torch.einsum("nchw,c->nhw", maps.float(), self.weight) + self.bias
        sides = (min(self.shape.window, cells.shape[1]), min(self.shape.window, cells.shape[2]))
        windows = functional.avg_pool2d(cells[:, None], sides, stride=self.shape.step).flatten(1)
        pooled: Tensor = self.shape.tau * (torch.logsumexp(windows / self.shape.tau, 1) - math.log(windows.shape[1]))
        return pooled

    def head(self) -> Head:
        """The head as it is now."""
        return Head(self.shape, self.weight.detach().cpu().numpy().astype(np.float32), float(self.bias.detach().cpu()))
