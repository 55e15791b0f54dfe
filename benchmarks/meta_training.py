#!/usr/bin/env python3
"""Episodes per second of meta-training, beside a loop over tasks in PyTorch.

Command:  python benchmarks/meta_training.py           # pip install torch for the comparison
Hardware: 2 CPU cores, two minutes; an accelerator is used where JAX and PyTorch find one.
          Where other work runs, ``taskset -c 0`` before the command and the column CPU s help.

The paper's sizes: 8 tasks with 45 queries each, a second-order step on the teacher, inputs STA on
64x64 images. Maps and accuracies are random, architectures are sampled. All variants do the same
episodes, interleaved: every round runs each of them once. The PyTorch loop takes one task after
another and differentiates through ``autograd.grad``, as the official implementation does.
Medians and quartiles over the rounds; ratios are medians of the ratios within a round. The share of
the machine's rate compares the multiply-adds of the predictor with the best matrix product of the
same rounds. Compilations are read from JAX's cache from the second run on.
"""

import time
from collections.abc import Callable
from typing import Literal

import interleaved
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from interleaved import Variant

from dass_jax import cli
from dass_jax.compilations import compilations
from dass_jax.console import console, print_table
from dass_jax.meta_learning import MetaConfig
from dass_jax.meta_tasks import TaskBatch
from dass_jax.meta_training import init_states, run_episodes
from dass_jax.predictor.graph import architecture_graph
from dass_jax.predictor.inputs import PredictorInputs, StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig
from dass_jax.search_space import Architecture, ResNetSpace

_TASKS = flags.DEFINE_integer("tasks", 8, "Meta-training tasks.")
_STUDENTS = flags.DEFINE_integer("students", 50, "Measured students of a task.")
_QUERIES = flags.DEFINE_integer("queries", 45, "Students drawn per task and episode.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "Height and width of the noise image.")
_INPUTS = flags.DEFINE_string("inputs", "STA", "What the predictor sees, of S, T and A.")
_ARCHITECTURE = flags.DEFINE_multi_enum(
    "architecture", ["flat"], ["flat", "graph"], "How A is encoded; may be repeated."
)
_TASK_BATCH = flags.DEFINE_multi_string(
    "task_batch", ["default"], "Tasks per vectorized step; give the flag again for more variants."
)
_FIRST_ORDER = flags.DEFINE_bool("first_order", False, "Whether there is no second derivative.")
_EPISODES = flags.DEFINE_integer("episodes", 5, "Episodes of each variant in a round.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds.")
_TORCH = flags.DEFINE_bool("torch", True, "Whether PyTorch is compared with.")

SPACE = ResNetSpace((32, 64, 128, 256), 5)
CLASSES = 40


def _describe(architectures: Architecture, maps: np.ndarray) -> StudentInputs:
    """All that the predictor may look at, of networks with these maps."""
    sizes = {"image_size": _IMAGE_SIZE.value, "num_classes": CLASSES}
    return StudentInputs(
        noise_map=jnp.asarray(maps),
        graph=jax.vmap(lambda one: architecture_graph(SPACE, one, **sizes))(architectures),
        encoding=jax.vmap(SPACE.encode)(architectures),
    )


def make_tasks() -> TaskBatch:
    """Tasks of random numbers in the shapes of real ones."""
    count, students = _TASKS.value, _STUDENTS.value
    rng = np.random.default_rng(0)
    size = _IMAGE_SIZE.value // int(np.prod(SPACE.strides))

    def maps(number: int) -> np.ndarray:
        shape = (number, size, size, SPACE.stage_widths[-1])
        return np.maximum(rng.standard_normal(shape, np.float32), 0)

    keys = jax.random.split(jax.random.key(0), count * students)
    architectures = jax.jit(jax.vmap(SPACE.sample))(keys)
    full = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), SPACE.full())
    described = jax.jit(_describe)(architectures, maps(count * students))
    return TaskBatch(
        jax.tree.map(lambda leaf: leaf.reshape(count, students, *leaf.shape[1:]), described),
        jnp.asarray(rng.uniform(0.2, 0.6, (count, students)), jnp.float32),
        jnp.ones((count, students), bool),
        jax.jit(_describe)(full, maps(count)),
        jnp.asarray(rng.uniform(0.5, 0.6, count), jnp.float32),
        jnp.full(count, 1 / CLASSES),
    )


def make_config(task_batch: int | None = None) -> MetaConfig:
    """The paper's settings but for what flags change."""
    return MetaConfig(queries=_QUERIES.value, first_order=_FIRST_ORDER.value, task_batch=task_batch)


def engine(tasks: TaskBatch, predictor: PredictorConfig, config: MetaConfig) -> Callable[[], None]:
    """A round of this project's meta-training, compiled."""
    module = AccuracyPredictor(predictor)
    states = init_states(module, tasks, config)

    def run() -> None:
        nonlocal states
        states, losses = run_episodes(module, states, tasks, config, _EPISODES.value)
        jax.block_until_ready((states, losses))

    run()
    run()  # from where the first call left the state
    return run


def torch_loop(
    tasks: TaskBatch, predictor: PredictorConfig, config: MetaConfig
) -> Callable[[], None]:
    """A round of the loop in PyTorch, warm; its architecture encoder is the flat one."""
    import torch
    import torch_meta

    arrays = {
        "maps": tasks.students.noise_map,
        "encodings": tasks.students.encoding,
        "accuracies": tasks.accuracies,
        "teacher_map": tasks.teacher.noise_map,
        "teacher_encoding": tasks.teacher.encoding,
        "teacher_accuracy": tasks.teacher_accuracy,
    }
    sizes = {
        "hidden": predictor.hidden_channels,
        "embedding": predictor.embedding_channels,
        "architecture": predictor.architecture_features,
        "head": predictor.head_features,
    }
    settings = {
        name: getattr(config, name)
        for name in ("queries", "learning_rate", "inner_lr", "first_order")
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = {name: np.array(array) for name, array in arrays.items()}
    loop = torch_meta.Loop(tensors, predictor.inputs, sizes, settings, device)

    def run(episodes: int = _EPISODES.value) -> None:
        loop.run(episodes)

    run(1)
    return run


def make_variants(tasks: TaskBatch) -> list[Variant]:
    """All that is compared, and prints what compiling takes."""
    variants = []
    for encoder in _ARCHITECTURE.value:
        predictor = PredictorConfig(inputs=_INPUTS.value, architecture=encoder)
        for task_batch in _TASK_BATCH.value:
            before, begin = compilations(), time.perf_counter()
            name = f"dass_jax, {encoder}"
            name += "" if task_batch == "default" else f", {task_batch} tasks at a time"
            config = make_config(None if task_batch == "default" else int(task_batch))
            variants.append(Variant(name, engine(tasks, predictor, config)))
            done = compilations() - before
            console.print(
                f"{name}: ready in {time.perf_counter() - begin:.1f} s, "
                f"{done.number} compilations in {done.seconds:.1f} s"
            )
    if _TORCH.value:
        predictor = PredictorConfig(inputs=_INPUTS.value, architecture="flat")
        variants.append(Variant("PyTorch loop, flat", torch_loop(tasks, predictor, make_config())))
    return variants


def episode_flops(tasks: TaskBatch, encoder: Literal["flat", "graph"]) -> float:
    """What an episode needs: three times the forward pass, for two gradients of every product.

    Of the support, one network of every task, six times: its gradient is differentiated again.
    Gradients in the students' maps, which are fixed, are left out.
    """
    config = PredictorConfig(inputs=_INPUTS.value, architecture=encoder)
    predictor = AccuracyPredictor(config)
    task = jax.tree.map(lambda leaf: leaf[0], tasks)
    params = predictor.init(jax.random.key(0), task.support())["params"]

    def forward(inputs: PredictorInputs) -> float:
        analysis = jax.jit(predictor.apply).lower({"params": params}, inputs).cost_analysis()
        return float((analysis or {})["flops"])

    height, width, channels = task.teacher.noise_map.shape
    products = (height // 2) * (width // 2) * 9 * channels * config.hidden_channels
    fixed = 2 * products * len(task.valid) if "S" in config.inputs else 0
    queries = (3 * forward(task.queries()) - fixed) * min(1, _QUERIES.value / len(task.valid))
    return len(tasks.valid) * (queries + 6 * forward(task.support()))


def main(arguments: list[str]) -> None:
    """Measures everything."""
    cli.set_up_jax()
    tasks = make_tasks()
    variants = make_variants(tasks)
    product = interleaved.matrix_product()
    before = compilations()
    interleaved.run_rounds(variants, product, _ROUNDS.value)
    again = (compilations() - before).number
    reference = variants[-1]
    flops = {"flat": episode_flops(tasks, "flat"), "graph": episode_flops(tasks, "graph")}
    rows = []
    for variant in variants:
        encoder = "graph" if "graph" in variant.name else "flat"
        rate, quartiles, *rest = interleaved.row(variant, _EPISODES.value, reference, digits=2)
        speed = flops[encoder] * float(np.median(variant.rates(_EPISODES.value)))
        share = f"{100 * speed / interleaved.peak(product):.0f} %"
        rows.append([variant.name, rate, quartiles, share, *rest])
    header = ["engine", "episodes/s", "quartiles", "share", "ratio", "CPU s"]
    print_table(f"Episodes per second; ratio to: {reference.name}", header, rows)
    console.print(
        f"best matrix product: {interleaved.peak(product) / 1e9:.0f} GFLOP/s; an episode takes "
        + ", ".join(f"{flops[name] / 1e9:.1f} GFLOP ({name})" for name in _ARCHITECTURE.value)
    )
    console.print(f"compilations after the first call of each variant: {again}")


if __name__ == "__main__":
    app.run(main)
