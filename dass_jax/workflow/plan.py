"""What building a database will take, said before anything is spent."""

import dataclasses
import math
import statistics
import time

import jax
import jax.numpy as jnp

from dass_jax import cost, logit_cache, memory, parallel, resnet
from dass_jax import database as db
from dass_jax.console import console, count, duration, print_table
from dass_jax.data.tasks import TaskSpec, load_task
from dass_jax.distillation import views_needed
from dass_jax.experiment import DatabaseConfig, Experiment
from dass_jax.training import SGDConfig
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.students import sample_students

# A forward and a backward pass, in forward passes.
_PASSES = 3
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class TaskPlan:
    """What is left to do for one task.

    Attributes:
      spec: The task.
      num_classes: Its classes.
      images: Training, validation and test images.
      students: Students to distil, counted once for each replicate.
      teacher_seconds: Predicted time to train the teacher; 0 if it is trained.
      student_seconds: Predicted time to cache logits and distil.
      disk: Bytes that the logits of all views take.
      memory: What training takes of each device.
    """

    spec: TaskSpec
    num_classes: int
    images: tuple[int, int, int]
    students: int
    teacher_seconds: float
    student_seconds: float
    disk: int
    memory: memory.Memory


def measured_rate(experiment: Experiment) -> float:
    """Multiply-adds per second of one device in the teacher's forward pass.

    Training runs at about this rate on each device, loops over networks and all: 0.9 to 1.15 of it
    at the sizes of the shipped configurations (``benchmarks/kd_throughput.py``).
    """
    space, size = experiment.space, experiment.image_size
    variables = resnet.init(space, jax.random.key(0), 10)
    images = jnp.zeros((_BATCH, size, size, 3))
    forward = jax.jit(lambda: resnet.apply(space, variables, space.full(), images, train=False)[0])
    forward().block_until_ready()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        forward().block_until_ready()
        seconds.append(time.perf_counter() - begin)
    return _BATCH * _teacher_flops(experiment, 10) / statistics.median(seconds)


def plan_task(experiment: Experiment, workdir: Workdir, spec: TaskSpec, rate: float) -> TaskPlan:
    """Predicts what a task takes; reads its images, which are needed anyway.

    Args:
      experiment: The settings.
      workdir: What is there already is not counted.
      spec: The task.
      rate: Multiply-adds per second that training reaches on one device.

    Raises:
      UserError: If the images cannot be read.
    """
    kd, settings = experiment.kd, experiment.database_of(spec)
    data = load_task(spec, experiment.image_size)
    images = (len(data.train), len(data.valid), len(data.test))
    records = db.read_records(workdir.database, spec.name)
    pretrain = spec.role == "pretrain"
    missing = [
        student
        for replicate in range(0 if pretrain else settings.replicates)
        for student in db.missing_students(records, replicate, settings.students_per_task)
    ]
    views = (
        views_needed(kd, settings.replicates) if missing and kd.teacher_logits == "cached" else 0
    )
    trained = prepare.has_teacher(workdir, spec) or not (missing or pretrain)
    work = _student_work(experiment, spec, data.num_classes, images, missing)
    teacher = _teacher_flops(experiment, data.num_classes)
    devices = len(_layout(experiment, settings).devices)
    passes = views if kd.teacher_logits == "cached" else kd.sgd.epochs * len(missing)
    return TaskPlan(
        spec=spec,
        num_classes=data.num_classes,
        images=images,
        students=len(missing),
        teacher_seconds=0.0 if trained else teacher * _passes(
            experiment.teacher_of(spec).sgd, *images[:2]
        ) / rate,
        student_seconds=(work / devices + teacher * passes * images[0]) / rate,
        disk=logit_cache.cache_bytes(views, images[0], data.num_classes, kd.cache_dtype),
        memory=_memory(experiment, settings, data.num_classes, sum(images)),
    )  # fmt: skip


def _passes(sgd: SGDConfig, train: int, valid: int) -> int:
    """Forward passes of one image that a training comes to, evaluations included."""
    return _PASSES * sgd.epochs * train + math.ceil(sgd.epochs / sgd.eval_every) * valid


def _teacher_flops(experiment: Experiment, num_classes: int) -> int:
    full, size = experiment.space.full(), experiment.image_size
    return int(cost.num_flops(experiment.space, full, image_size=size, num_classes=num_classes))


def _student_work(
    experiment: Experiment,
    spec: TaskSpec,
    num_classes: int,
    images: tuple[int, int, int],
    missing: list[int],
) -> int:
    """Multiply-adds of distilling the missing students, padding included."""
    students = cost.at_full_width(experiment.space, sample_students(experiment, spec))
    each = cost.num_flops(
        experiment.space, students, image_size=experiment.image_size, num_classes=num_classes
    )
    train, valid, test = images
    # validated once more before training, tested once after it
    return int(each[missing].sum()) * (_passes(experiment.kd.sgd, train, valid) + valid + test)


def _population(settings: DatabaseConfig) -> int:
    return min(settings.students_per_batch, settings.students_per_task)


def _layout(experiment: Experiment, settings: DatabaseConfig) -> parallel.Layout:
    batch_size = experiment.kd.sgd.batch_size
    return parallel.choose_layout(experiment.devices, _population(settings), batch_size)


def _memory(
    experiment: Experiment, settings: DatabaseConfig, num_classes: int, num_images: int
) -> memory.Memory:
    kd, layout, population = experiment.kd, _layout(experiment, settings), _population(settings)
    on_cpu = layout.devices[0].platform == "cpu"
    k = kd.networks_per_step or (1 if on_cpu else -(-population // layout.network_shards))
    return memory.predict_memory(
        experiment.space, layout, population=population, networks_per_step=k,
        batch_size=kd.sgd.batch_size, image_size=experiment.image_size,
        num_classes=num_classes, num_images=num_images,
    )  # fmt: skip


def print_plan(experiment: Experiment, workdir: Workdir) -> list[TaskPlan]:
    """Predicts and prints what building a database takes.

    Args:
      experiment: The settings.
      workdir: Where it would lie.

    Returns:
      The plans of all tasks.

    Raises:
      UserError: If the images of a task cannot be read.
    """
    rate = measured_rate(experiment)
    plans = [plan_task(experiment, workdir, spec, rate) for spec in experiment.tasks]
    rows = [
        [
            plan.spec.name,
            plan.spec.role,
            plan.num_classes,
            "/".join(map(str, plan.images)),
            plan.students,
            duration(plan.teacher_seconds),
            duration(plan.student_seconds),
            f"{count(plan.disk)}B",
            f"{count(plan.memory.total)}B",
        ]
        for plan in plans
    ]
    header = [
        "task",
        "role",
        "classes",
        "train/valid/test",
        "students",
        "teacher",
        "students' time",
    ]
    print_table("Plan: what is left to do", [*header, "logits", "memory"], rows)
    seconds = sum(plan.teacher_seconds + plan.student_seconds for plan in plans)
    disk = sum(plan.disk for plan in plans)
    console.print(
        f"about {duration(seconds)} and some seconds of compilation, {count(disk)}B of disk in "
        f"{workdir.root}; {len(experiment.devices.local())} devices"
    )
    return plans
