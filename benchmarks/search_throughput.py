#!/usr/bin/env python3
"""Candidates scored per second, beside a loop over candidates in PyTorch.

Command:  python benchmarks/search_throughput.py      # pip install torch for the comparison
Hardware: 2 CPU cores, some minutes; an accelerator is used where JAX and PyTorch find one.

End to end for both: sample (here) or read the architecture (loop), inherit the teacher's weights,
run one noise image, embed and predict, with a predictor of the paper's sizes. Interleaved: every
round runs each variant once, on the same candidates. Medians and quartiles over the rounds; ratios
are medians of the ratios within a round. It also says how much of the arithmetic candidates could
share if every common beginning of two networks were computed once.
"""

import functools
import math
import time
from collections.abc import Callable

import interleaved
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from interleaved import Variant

from dass_jax import cost, resnet
from dass_jax.compilations import compilations
from dass_jax.console import console, print_table
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.meta_training import init_states
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig
from dass_jax.runtime import set_up_jax
from dass_jax.search_space import Architecture, ResNetSpace, unstack
from dass_jax.teacher import TeacherResult
from dass_jax.uncertainty import Calibration
from dass_jax.workflow import prepare
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.scorer import make_scorer
from dass_jax.workflow.task_arrays import example_task

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width.")
_WIDTHS = flags.DEFINE_list("widths", "32,64,128,256", "The teacher's stage widths.")
_DEPTH = flags.DEFINE_integer("depth", 5, "The teacher's blocks per stage.")
_CANDIDATES = flags.DEFINE_integer("candidates", 128, "Candidates of a round.")
_BATCH = flags.DEFINE_integer("batch_size", 128, "Candidates of a compiled call.")
_CLASSES = flags.DEFINE_integer("classes", 40, "Classes.")
_INPUTS = flags.DEFINE_string("inputs", "STA", "What the predictor sees.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.")
_TORCH = flags.DEFINE_bool("torch", True, "Whether PyTorch is compared with.")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample(space: ResNetSpace, count: int) -> Architecture:
    return jax.vmap(space.sample)(jax.random.split(jax.random.key(0), count))


def sample(space: ResNetSpace) -> Architecture:
    """The candidates of every round."""
    return jax.device_get(_sample(space, _CANDIDATES.value))


def engine(experiment: Experiment) -> Callable[[], None]:
    """A round of this project's search, compiled."""
    space = experiment.space
    variables = jax.jit(lambda key: resnet.init(space, key, _CLASSES.value))(jax.random.key(1))
    teacher = TeacherResult(jax.device_get(variables), 0.5, 0, [], 0.0)
    module = AccuracyPredictor(experiment.predictor)
    tasks = jax.tree.map(lambda leaf: leaf[None], example_task(experiment))
    learned = init_states(module, tasks, experiment.meta).learned
    predictor = TrainedPredictor(module, learned, Calibration(0.1, 1.0), {}, experiment)
    spec = TaskSpec("benchmark", "meta_test", "generated:shapes")
    images = prepare.load_images(experiment, spec)
    scorer = make_scorer(predictor, spec, images, teacher, _BATCH.value)
    ids = np.arange(_CANDIDATES.value, dtype=np.int32)

    def run() -> None:
        scorer(sample(space), ids)

    run()
    return run


def torch_loop(space: ResNetSpace, candidates: Architecture) -> Callable[[], None]:
    """A round of the loop in PyTorch, warm."""
    import torch
    import torch_search

    teacher = [[width] * space.stage_depth for width in space.stage_widths]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loop = torch_search.Loop(
        teacher, space.strides, _IMAGE_SIZE.value, _CLASSES.value, space.encoding_length, device
    )
    widths = [space.to_json(one)["widths"] for one in unstack(candidates)]
    flat = np.asarray(jax.vmap(space.encode)(jax.tree.map(jnp.asarray, candidates)))
    loop.score(widths[:2], flat[:2])

    def run() -> None:
        loop.score(widths, flat)

    return run


def shareable(space: ResNetSpace, candidates: Architecture) -> float:
    """The share of the multiply-adds that common beginnings of networks repeat.

    Two candidates share a block if they agree in everything up to it.
    """
    sizes = [
        _IMAGE_SIZE.value // math.prod(space.strides[: stage + 1])
        for stage in range(space.num_stages)
    ]
    total, once = 0, dict[tuple, int]()
    for widths in np.asarray(candidates.widths):
        inputs, prefix = int(widths[0, 0]), tuple[tuple[int, int], ...]()
        for size, row in zip(sizes, widths, strict=True):
            for width in row[row > 0].tolist():
                prefix = (*prefix, (size, width))
                once[prefix] = work = 9 * size**2 * (inputs * width + width**2)
                total, inputs = total + work, width
    return 1 - sum(once.values()) / total


def report(variants: list[Variant], product: Variant, flops: float, padded: float) -> None:
    """Prints rates, shares and ratios."""
    peak, reference = interleaved.peak(product), variants[-1]
    rows = []
    for variant in variants:
        share = 2 * flops * np.median(variant.rates(_CANDIDATES.value)) / peak
        cells = interleaved.row(variant, _CANDIDATES.value, reference, digits=1)
        rows.append([variant.name, *cells, f"{100 * share:.0f} %"])
    header = ["search", "candidates/s", "quartiles", "ratio", "CPU s", "share of the best rate"]
    print_table(f"Candidates scored per second; ratio to: {reference.name}", header, rows)
    console.print(
        f"best matrix product: {peak / 1e9:.0f} GFLOP/s; candidates average {flops / 1e6:.0f} M "
        f"multiply-adds, {padded / 1e6:.0f} M at the teacher's widths; dense arithmetic alone "
        f"would allow {peak / (2 * flops):.0f} candidates/s"
    )


def main(arguments: list[str]) -> None:
    """Measures everything."""
    set_up_jax()
    space = ResNetSpace(tuple(map(int, _WIDTHS.value)), _DEPTH.value)
    experiment = Experiment(
        image_size=_IMAGE_SIZE.value, space=space, predictor=PredictorConfig(_INPUTS.value)
    )
    before, begin = compilations(), time.perf_counter()
    variants = [Variant(f"dass_jax, inputs {_INPUTS.value}", engine(experiment))]
    done = compilations() - before
    console.print(
        f"ready in {time.perf_counter() - begin:.1f} s, {done.number} compilations in "
        f"{done.seconds:.1f} s"
    )
    candidates = sample(space)
    if _TORCH.value:
        variants.append(Variant("PyTorch loop", torch_loop(space, candidates)))
    product = interleaved.matrix_product()
    before = compilations()
    interleaved.run_rounds(variants, product, _ROUNDS.value)
    later = compilations() - before
    sizes = {"image_size": _IMAGE_SIZE.value, "num_classes": _CLASSES.value}
    flops = cost.num_flops(space, candidates, **sizes).mean()
    padded = cost.num_flops(space, cost.at_full_width(space, candidates), **sizes).mean()
    report(variants, product, float(flops), float(padded))
    console.print(
        f"common beginnings repeat {100 * shareable(space, candidates):.1f} % of the "
        f"multiply-adds; compilations after the first round: {later.number}"
    )


if __name__ == "__main__":
    app.run(main)
