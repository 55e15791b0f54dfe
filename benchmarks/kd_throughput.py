#!/usr/bin/env python3
"""Student-images per second of distillation, beside a loop over students in PyTorch.

Command:  python benchmarks/kd_throughput.py          # pip install torch for the comparison
Hardware: 2 CPU cores, some minutes; an accelerator is used where JAX and PyTorch find one.

The same students, random images and batch size for all, interleaved: every round runs each variant
once. The PyTorch loop builds each student at its own size and evaluates the teacher in every step,
as the official implementation does; a second variant of it reads teacher logits that lie ready.
Networks are built before time is taken, and float32 means float32 on both sides.

Medians and quartiles over the rounds; ratios are medians of the ratios within a round. The share of
the machine's rate compares multiply-adds (three times the forward pass) with the best float32
matrix product of the same rounds, on all devices: those that the students need, and, for the
engine, with the padding of its channels to the teacher's. Students that fill up the devices are
trained and not counted.
"""

import dataclasses
import time
from collections.abc import Callable

import interleaved
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from interleaved import Variant

from dass_jax import cli, cost, epochs, memory, parallel, remapping, resnet, training
from dass_jax.compilations import compilations
from dass_jax.console import console, print_table
from dass_jax.data.augmentation import Augmentation
from dass_jax.distillation import DistillConfig
from dass_jax.evaluation import Split
from dass_jax.search_space import Architecture, ResNetSpace, unstack
from dass_jax.seats import take_seats

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width.")
_WIDTHS = flags.DEFINE_list("widths", "16,32,64,128", "The teacher's stage widths.")
_DEPTH = flags.DEFINE_integer("depth", 3, "The teacher's blocks per stage.")
_STUDENTS = flags.DEFINE_integer("students", 8, "K.")
_CLASSES = flags.DEFINE_integer("classes", 40, "Classes.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Images per step.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps of each student in a round.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds.")
_PER_STEP = flags.DEFINE_multi_string(
    "networks_per_step", ["default"], "k of the engine; give the flag again for more variants."
)
_DTYPES = flags.DEFINE_multi_string("compute_dtype", ["float32"], "Of the engine; may be repeated.")
_DEVICES = flags.DEFINE_integer("devices", None, "Devices of the engine; all by default.")
_TORCH = flags.DEFINE_bool("torch", True, "Whether PyTorch is compared with.")

IMAGES = 1024


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    size = (IMAGES, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3)
    return (
        rng.integers(0, 256, size, dtype=np.uint8),
        (np.arange(IMAGES) % _CLASSES.value).astype(np.int32),
    )


def engine(
    space: ResNetSpace, students: Architecture, config: DistillConfig, online: bool
) -> Callable[[], None]:
    """A round of this project's engine, compiled."""
    images, labels = make_data()
    arrangement = memory.arrange(
        space, parallel.Devices(_DEVICES.value), _STUDENTS.value,
        networks_per_step=config.networks_per_step, batch_size=config.sgd.batch_size,
        image_size=_IMAGE_SIZE.value, num_classes=_CLASSES.value, num_images=IMAGES,
    )  # fmt: skip
    layout, networks_per_step = arrangement.layout, arrangement.networks_per_step
    plan = training.Plan(
        space, config.sgd, config.loss, Augmentation(), 1000, layout, networks_per_step,
        config.compute_dtype,
    )  # fmt: skip
    blocks = np.asarray(students.depths).sum(-1)
    seats = take_seats(blocks, layout, networks_per_step)
    teacher = resnet.init(space, jax.random.key(1), _CLASSES.value)
    variables = jax.jit(jax.vmap(lambda a: remapping.remap(space, teacher, a)))(students)
    states, losses, *_ = epochs.begin(plan, variables)
    states, losses, students = seats.spread((states, losses, students))
    source: training.Teacher = training.OnlineTeacher(teacher)
    if not online:
        source = training.CachedTeacher(jnp.zeros((IMAGES, _CLASSES.value), config.cache_dtype))
    order = epochs.epoch_order(jax.random.key(2), IMAGES, config.sgd.batch_size)
    key, view = jax.random.key(3), np.int32(0)
    batches = training.Batches(
        *parallel.place(
            layout, (Split(jnp.asarray(images), jnp.asarray(labels)), source, order, key, view)
        )
    )
    kept = (states, losses)

    def run(steps: int = _STEPS.value) -> None:
        nonlocal kept
        bounds = parallel.place(layout, (np.int32(0), np.int32(steps)))
        kept = training.train_steps(plan, *kept, students, batches, *bounds)
        jax.block_until_ready(kept)

    run(1)
    return run


def torch_loop(
    space: ResNetSpace, students: Architecture, config: DistillConfig, online: bool
) -> Callable[[], None]:
    """A round of the loop in PyTorch, warm."""
    import torch
    import torch_kd

    settings = {
        name: getattr(config.sgd, name)
        for name in ("batch_size", "learning_rate", "momentum", "weight_decay")
    } | {"alpha": config.loss.alpha, "temperature": config.loss.temperature}
    teacher = [[width] * space.stage_depth for width in space.stage_widths]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # float32 is what it says on both sides
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    loop = torch_kd.Loop(*make_data(), space.strides, teacher, settings, device)
    begun = [loop.begin(space.to_json(student)["widths"]) for student in unstack(students)]

    def run(steps: int = _STEPS.value) -> None:
        for student, optimizer in begun:
            loop.train(student, optimizer, steps, online)

    run(1)
    return run


def make_variants(space: ResNetSpace, students: Architecture) -> list[Variant]:
    """All that is compared, and prints what compiling the engine takes."""
    config = DistillConfig(sgd=training.SGDConfig(epochs=1, batch_size=_BATCH.value))
    variants = []
    for dtype in _DTYPES.value:
        for k in _PER_STEP.value:
            for online in (False, True):
                before, begin = compilations(), time.perf_counter()
                name = f"dass_jax, {'teacher online' if online else 'cached logits'}"
                name += "" if dtype == "float32" else f", {dtype}"
                name += "" if k == "default" else f", k = {k}"
                settings = dataclasses.replace(
                    config,
                    networks_per_step=None if k == "default" else int(k),
                    compute_dtype=dtype,
                )
                variants.append(Variant(name, engine(space, students, settings, online)))
                done = compilations() - before
                console.print(
                    f"{name}: ready in {time.perf_counter() - begin:.1f} s, "
                    f"{done.number} compilations in {done.seconds:.1f} s"
                )
    if _TORCH.value:
        for online in (True, False):
            name = f"PyTorch loop, {'teacher online' if online else 'logits ready'}"
            variants.append(Variant(name, torch_loop(space, students, config, online)))
    return variants


def report(
    variants: list[Variant], product: Variant, flops: np.ndarray, padded: np.ndarray
) -> None:
    """Prints rates, shares and ratios."""
    images = _STUDENTS.value * _STEPS.value * _BATCH.value
    # all cores of a CPU take part in one product, whatever the number of devices
    shards = 1 if jax.default_backend() == "cpu" else len(parallel.Devices(_DEVICES.value).local())
    peak = interleaved.peak(product) * shards
    reference = next((v for v in variants if v.name.startswith("PyTorch")), variants[0])
    rows = []
    for variant in variants:
        shares = [6 * flops.mean() * np.median(variant.rates(images)) / peak]
        if variant.name.startswith("dass_jax"):
            shares.append(shares[0] * padded.mean() / flops.mean())
        rate, quartiles, *rest = interleaved.row(variant, images, reference)
        share = " / ".join(f"{100 * share:.0f}" for share in shares) + " %"
        rows.append([variant.name, rate, quartiles, share, *rest])
    header = ["engine", "images/s", "quartiles", "share", "ratio", "CPU s"]
    print_table(f"Student-images per second; ratio to: {reference.name}", header, rows)
    console.print(
        f"best matrix product: {peak / 1e9:.0f} GFLOP/s; students average "
        f"{flops.mean() / 1e6:.1f} M multiply-adds; {len(jax.local_devices())} devices"
    )


def main(arguments: list[str]) -> None:
    """Measures everything."""
    cli.set_up_jax()
    space = ResNetSpace(tuple(map(int, _WIDTHS.value)), _DEPTH.value)
    students = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), _STUDENTS.value))
    sizes = {"image_size": _IMAGE_SIZE.value, "num_classes": _CLASSES.value}
    flops = cost.num_flops(space, students, **sizes)
    padded = cost.num_flops(space, cost.at_full_width(space, students), **sizes)
    variants = make_variants(space, students)
    product = interleaved.matrix_product()
    before = compilations()
    interleaved.run_rounds(variants, product, _ROUNDS.value)
    report(variants, product, flops, padded)
    again = (compilations() - before).number
    console.print(f"compilations after the first call of each variant: {again}")


if __name__ == "__main__":
    app.run(main)
