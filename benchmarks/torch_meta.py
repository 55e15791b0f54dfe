"""Meta-trains the predictor in PyTorch, task after task: what `meta_training.py` compares with.

As the official implementation of DaSS (ICLR 2023) does: in every task one gradient step on the
teacher's pair with ``create_graph``, then the squared error of the adapted parameters on the
queries; Adam on parameters and inner learning rates.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

Weights = dict[str, torch.Tensor]


def initial_weights(
    channels: int, encoding: int, sizes: Mapping[str, int], inputs: str, device: str
) -> Weights:
    """Uniform in plus and minus one over the root of the inputs.

    Args:
      channels: Of a feature map.
      encoding: Length of an architecture's encoding.
      sizes: ``hidden``, ``embedding``, ``architecture`` and ``head``.
      inputs: What the predictor sees, of S, T and A.
      device: Where they go.
    """
    hidden, embedding = sizes["hidden"], sizes["embedding"]
    shapes: dict[str, tuple[int, ...]] = {}
    for letter in inputs.replace("A", ""):
        shapes[f"{letter}1"] = (hidden, channels, 3, 3)
        shapes[f"{letter}2"] = (embedding, hidden, 3, 3)
    if "A" in inputs:
        shapes["A.weight"] = (sizes["architecture"], encoding)
    features = len(inputs.replace("A", "")) * embedding
    features += sizes["architecture"] if "A" in inputs else 0
    shapes["head1.weight"] = (sizes["head"], features)
    shapes["head2.weight"] = (1, sizes["head"])
    weights = {}
    for name, shape in shapes.items():
        bound = float(np.prod(shape[1:])) ** -0.5
        weights[name] = torch.empty(shape, device=device).uniform_(-bound, bound)
        if name.endswith("weight"):
            bias = torch.empty(shape[0], device=device).uniform_(-bound, bound)
            weights[name.replace("weight", "bias")] = bias
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def dense(weights: Weights, name: str, inputs: torch.Tensor) -> torch.Tensor:
    """One dense layer."""
    return functional.linear(inputs, weights[f"{name}.weight"], weights[f"{name}.bias"])


def embed(maps: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Two convolutions of stride 2 and a global average pool."""
    hidden = functional.relu(functional.conv2d(maps, first, stride=2, padding=1))
    return functional.relu(functional.conv2d(hidden, second, stride=2, padding=1)).mean((2, 3))


def predict(
    weights: Weights, maps: torch.Tensor, encodings: torch.Tensor, teacher_map: torch.Tensor
) -> torch.Tensor:
    """Predicts the accuracies of students of one teacher."""
    features = []
    if "S1" in weights:
        features.append(embed(maps, weights["S1"], weights["S2"]))
    if "A.weight" in weights:
        features.append(dense(weights, "A", encodings))
    if "T1" in weights:
        teacher = embed(teacher_map, weights["T1"], weights["T2"])
        features.append(teacher.expand(len(maps), -1))
    hidden = torch.tanh(dense(weights, "head1", torch.cat(features, 1)))
    return dense(weights, "head2", hidden)[:, 0]


class Loop:
    """Meta-training on fixed tasks.

    Args:
      tasks: ``maps`` [T, N, H, W, C], ``encodings`` [T, N, E], ``accuracies`` [T, N] and, of the
        teachers, ``teacher_map``, ``teacher_encoding`` and ``teacher_accuracy``, all float32.
      inputs: What the predictor sees, of S, T and A.
      sizes: As ``initial_weights`` takes.
      settings: ``queries``, ``learning_rate``, ``inner_lr`` and ``first_order``.
      device: Where everything is computed.
    """

    def __init__(
        self,
        tasks: Mapping[str, np.ndarray],
        inputs: str,
        sizes: Mapping[str, int],
        settings: Mapping[str, float],
        device: str,
    ) -> None:
        self.device, self.settings = device, settings
        self.tasks = {name: torch.from_numpy(array).to(device) for name, array in tasks.items()}
        for name in ("maps", "teacher_map"):
            self.tasks[name] = self.tasks[name].movedim(-1, -3).contiguous()
        channels, encoding = tasks["maps"].shape[-1], tasks["encodings"].shape[-1]
        self.weights = initial_weights(channels, encoding, sizes, inputs, device)
        self.rates = {
            name: torch.full_like(weight, settings["inner_lr"]).requires_grad_()
            for name, weight in self.weights.items()
        }
        learned = [*self.weights.values(), *self.rates.values()]
        self.optimizer = torch.optim.Adam(learned, settings["learning_rate"])

    def _adapted(self, task: Mapping[str, torch.Tensor]) -> Weights:
        """One step on the teacher as an architecture, which gradients pass through."""
        teacher_map = task["teacher_map"][None]
        prediction = predict(self.weights, teacher_map, task["teacher_encoding"][None], teacher_map)
        loss = functional.mse_loss(prediction, task["teacher_accuracy"][None])
        second_order = not self.settings["first_order"]
        slopes = torch.autograd.grad(loss, list(self.weights.values()), create_graph=second_order)
        pairs = zip(self.weights.items(), slopes, strict=True)
        return {name: weight - self.rates[name] * slope for (name, weight), slope in pairs}

    def run(self, episodes: int) -> float:
        """Does some episodes; returns the last outer loss."""
        total = torch.zeros((), device=self.device)
        count, queries = len(self.tasks["accuracies"]), int(self.settings["queries"])
        for _ in range(episodes):
            total = torch.zeros((), device=self.device)
            for number in range(count):
                task = {name: tensor[number] for name, tensor in self.tasks.items()}
                drawn = torch.randperm(len(task["maps"]), device=self.device)[:queries]
                answers = predict(
                    self._adapted(task), task["maps"][drawn], task["encodings"][drawn],
                    task["teacher_map"][None],
                )  # fmt: skip
                total = total + functional.mse_loss(answers, task["accuracies"][drawn])
            self.optimizer.zero_grad()
            (total / count).backward()
            self.optimizer.step()
        return float(total.detach()) / count
