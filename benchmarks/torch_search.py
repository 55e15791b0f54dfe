"""Embeds one candidate after another in PyTorch: what `search_throughput.py` compares with.

Each candidate is built at its own size, inherits the teacher's first channels, and sees one noise
image, as the preparation of the official implementation of DaSS (ICLR 2023) must.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch_kd
from torch import nn
from torch.nn import functional


class Encoder(nn.Module):
    """Two strided convolutions and a global average pool."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 128, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(128, 256, 3, 2, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Embeds activation maps."""
        hidden = functional.relu(self.conv1(maps))
        return functional.relu(self.conv2(hidden)).mean((2, 3))


class Predictor(nn.Module):
    """Student map, flat architecture, teacher map -> accuracy."""

    def __init__(self, channels: int, encoding: int) -> None:
        super().__init__()
        self.student, self.teacher = Encoder(channels), Encoder(channels)
        self.architecture = nn.Linear(encoding, 64)
        self.head = nn.Sequential(nn.Linear(2 * 256 + 64, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(
        self, maps: torch.Tensor, encodings: torch.Tensor, teacher: torch.Tensor
    ) -> torch.Tensor:
        """Predicts the accuracies of a batch of candidates."""
        known = self.teacher(teacher).expand(len(maps), -1)
        parts = [self.student(maps), self.architecture(encodings), known]
        return self.head(torch.cat(parts, 1))[:, 0]


def _inherit(student: nn.Module, teacher: nn.Module) -> None:
    """Copies the first channels of the layers that both have."""
    theirs = teacher.state_dict()
    own = {
        name: theirs[name][tuple(slice(size) for size in tensor.shape)]
        for name, tensor in student.state_dict().items()
    }
    student.load_state_dict(own)


def _last_map(network: torch_kd.ResNet, image: torch.Tensor) -> torch.Tensor:
    hidden = functional.relu(network.norm(network.stem(image)), inplace=True)
    return network.blocks(hidden)


class Loop:
    """Scores candidates one after another.

    Args:
      teacher_widths: Widths of the teacher's blocks, one list per stage.
      strides: Stride of each stage.
      image_size: Of the noise image.
      num_classes: Of the dense layer.
      encoding: Length of the flat architecture encoding.
      device: Where to.
    """

    def __init__(
        self,
        teacher_widths: Sequence[Sequence[int]],
        strides: Sequence[int],
        image_size: int,
        num_classes: int,
        encoding: int,
        device: str,
    ) -> None:
        self.widths, self.strides, self.num_classes = teacher_widths, strides, num_classes
        self.device = device
        self.teacher = self._build(teacher_widths)
        self.image = torch.randn(1, 3, image_size, image_size, device=device)
        self.channels = teacher_widths[-1][-1]
        self.predictor = Predictor(self.channels, encoding).to(device).eval()

    def _build(self, widths: Sequence[Sequence[int]]) -> torch_kd.ResNet:
        return torch_kd.ResNet(widths, self.strides, self.num_classes).to(self.device).eval()

    def _embed(self, widths: Sequence[Sequence[int]]) -> torch.Tensor:
        student = self._build(widths)
        # blocks stand in one row, so a shallower student's are renumbered as the teacher's
        depth = len(self.widths[0])
        places = [s * depth + b for s, row in enumerate(widths) for b in range(len(row))]
        picked = nn.Module()
        for name in ("stem", "norm", "dense"):
            picked.add_module(name, getattr(self.teacher, name))
        picked.blocks = nn.Sequential(*(self.teacher.blocks[place] for place in places))
        _inherit(student, picked)
        return functional.pad(
            _last_map(student, self.image), (0, 0, 0, 0, 0, self.channels - widths[-1][-1])
        )

    @torch.no_grad()
    def score(self, candidates: Sequence[Sequence[Sequence[int]]], encodings: np.ndarray) -> float:
        """Embeds and scores candidates; returns the best prediction.

        Args:
          candidates: Widths of the blocks of each, one list per stage.
          encodings: Their flat encodings.
        """
        maps = torch.cat([self._embed(widths) for widths in candidates])
        known = _last_map(self.teacher, self.image)
        flat = torch.from_numpy(encodings.copy()).to(self.device)
        return float(self.predictor(maps, flat, known).max())
