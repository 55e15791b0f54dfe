"""Distils one student after another in PyTorch: what `kd_throughput.py` compares with.

Each student is built at its own size and trained with the teacher evaluated in every step, as the
official implementation of DaSS (ICLR 2023) does. Images are NCHW in the channels-last memory
format, whichever is faster here being the fair opponent.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """conv - BN - ReLU - conv - BN, plus the parameter-free shortcut, ReLU."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.width = stride, width
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Runs the block."""
        hidden = functional.relu(self.norm1(self.conv1(inputs)), inplace=True)
        hidden = self.norm2(self.conv2(hidden))
        shortcut = functional.max_pool2d(inputs, 2) if self.stride == 2 else inputs
        missing = self.width - shortcut.shape[1]
        if missing > 0:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, missing))
        elif missing < 0:
            shortcut = shortcut[:, : self.width]
        return functional.relu(hidden + shortcut, inplace=True)


class ResNet(nn.Module):
    """A network of exactly the given widths."""

    def __init__(
        self, widths: Sequence[Sequence[int]], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        channels = widths[0][0]
        self.stem = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        blocks = []
        for row, stride in zip(widths, strides, strict=True):
            for index, width in enumerate(row):
                blocks.append(Block(channels, width, stride if index == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        hidden = functional.relu(self.norm(self.stem(images)), inplace=True)
        return self.dense(self.blocks(hidden).mean((2, 3)))


def kd_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, alpha: float, heat: float
) -> torch.Tensor:
    """Half from the softened teacher, half from the labels, for alpha 0.5."""
    soft = functional.cross_entropy(student / heat, functional.softmax(teacher / heat, -1))
    return (1 - alpha) * heat**2 * soft + alpha * functional.cross_entropy(student, labels)


class Loop:
    """Trains one student at a time on the same images.

    Args:
      images: uint8, NHWC.
      labels: Class indices.
      strides: Stride of each stage.
      teacher_widths: Widths of the teacher's blocks, one list per stage.
      settings: ``batch_size``, ``learning_rate``, ``momentum``, ``weight_decay``, ``alpha``,
        ``temperature``.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        strides: Sequence[int],
        teacher_widths: Sequence[Sequence[int]],
        settings: Mapping[str, float],
        device: str,
    ) -> None:
        self.device, self.settings, self.strides = device, settings, strides
        self.num_classes = int(labels.max()) + 1
        tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        self.images = tensor.contiguous(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self.teacher = self._network(teacher_widths).eval()
        self.stored = torch.randn(len(labels), self.num_classes, device=device)
        self.order = torch.randperm(len(labels), device=device)

    def _network(self, widths: Sequence[Sequence[int]]) -> nn.Module:
        network = ResNet(widths, self.strides, self.num_classes).to(self.device)
        return network.to(memory_format=torch.channels_last)

    def _batch(self, indices: torch.Tensor) -> torch.Tensor:
        """Crops and flips as the official loop does, one offset for each image."""
        images = self.images[indices]
        size = images.shape[-1]
        margin = size // 8
        padded = functional.pad(images, (margin,) * 4)
        count = len(indices)
        top = torch.randint(0, 2 * margin + 1, (count, 1), device=self.device)
        left = torch.randint(0, 2 * margin + 1, (count, 1), device=self.device)
        rows = top + torch.arange(size, device=self.device)
        columns = left + torch.arange(size, device=self.device)
        flip = torch.rand(count, 1, device=self.device) < 0.5
        columns = torch.where(flip, columns.flip(1), columns)
        every = torch.arange(count, device=self.device)[:, None, None]
        cropped = padded.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]]
        return cropped.permute(0, 3, 1, 2).float() / 127.5 - 1

    def begin(self, widths: Sequence[Sequence[int]]) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A new student with its optimiser.

        Args:
          widths: Widths of its blocks, one list per stage.
        """
        settings = self.settings
        student = self._network(widths).train()
        optimizer = torch.optim.SGD(
            student.parameters(), settings["learning_rate"], settings["momentum"],
            weight_decay=settings["weight_decay"], nesterov=True,
        )  # fmt: skip
        return student, optimizer

    def train(
        self,
        student: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: int,
        online: bool = True,
    ) -> float:
        """Distils one student for some steps; returns its last loss.

        Args:
          student: The student, which is trained further.
          optimizer: Its optimiser.
          steps: Steps of the optimiser.
          online: Whether the teacher is evaluated in every step, or logits lie ready.
        """
        settings, order, stored = self.settings, self.order, self.stored
        size = int(settings["batch_size"])
        loss = torch.zeros(())
        for step in range(steps):
            start = step * size % (len(order) - size + 1)
            indices = order[start : start + size]
            images = self._batch(indices)
            with torch.no_grad():
                targets = self.teacher(images) if online else stored[indices]
            logits = student(images)
            loss = kd_loss(
                logits, targets, self.labels[indices], settings["alpha"], settings["temperature"]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return float(loss.detach())
