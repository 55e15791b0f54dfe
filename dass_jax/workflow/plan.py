"""What building a database will take, said before anything is spent."""

import dataclasses
import math
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from dass_jax import cost, logit_cache, memory, parallel, resnet
from dass_jax import database as db
from dass_jax.checkpoints import OVERHEAD_BYTES
from dass_jax.console import console, count, duration, print_table
from dass_jax.data.tasks import TaskSpec, load_task
from dass_jax.distillation import views_needed
from dass_jax.experiment import Experiment
from dass_jax.memory import Arrangement
from dass_jax.training import SGDConfig
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.students import batches, population_size, sample_students

# A forward and a backward pass, in forward passes.
_PASSES = 3
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class TaskSizes:
    """What the plan must know of a task's images.

    Attributes:
      num_classes: Classes.
      train: Training images.
      valid: Validation images.
      test: Test images.
    """

    num_classes: int
    train: int
    valid: int
    test: int


@dataclasses.dataclass(frozen=True)
class TaskPlan:
    """What is left to do for one task.

    Attributes:
      spec: The task.
      sizes: Its images.
      students: Students to distil, counted once for each replicate.
      teacher_work: Multiply-adds that training the teacher takes of each device.
      student_work: Multiply-adds that caching logits and distilling takes of the busiest device.
      disk: Bytes of the logits and the teacher that are to be stored.
      unfinished: Bytes at most of trainings that are under way, which go when they are finished.
      arrangement: How the devices distil; None if there is no student to distil.
    """

    spec: TaskSpec
    sizes: TaskSizes
    students: int
    teacher_work: float
    student_work: float
    disk: int
    unfinished: int
    arrangement: Arrangement | None


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


def missing_students(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> list[list[int]]:
    """The students of a task that are not measured, for each replicate."""
    if spec not in experiment.student_tasks:
        return []
    settings = experiment.database_of(spec)
    records = db.read_records(workdir.database, spec.name)
    return [
        db.missing_students(records, replicate, settings.students_per_task)
        for replicate in range(settings.replicates)
    ]


def has_work(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> bool:
    """Whether anything is left to do for a task."""
    if spec.role == "pretrain":
        return not prepare.has_teacher(workdir, spec)
    return any(missing_students(experiment, workdir, spec))


def plan_task(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> TaskPlan:
    """Predicts what a task takes of which something is left to do.

    Args:
      experiment: The settings.
      workdir: What is there already is not counted.
      spec: The task.

    Raises:
      UserError: If the images cannot be read.
    """
    data = load_task(spec, experiment.image_size)
    sizes = TaskSizes(data.num_classes, len(data.train), len(data.valid), len(data.test))
    missing = missing_students(experiment, workdir, spec)
    kd, settings = experiment.kd, experiment.database_of(spec)
    trained = prepare.has_teacher(workdir, spec)
    views = 0
    if any(missing) and kd.teacher_logits == "cached":
        views = views_needed(kd, settings.replicates)
        if trained:
            views = logit_cache.missing_views(workdir.logits(spec.name), views)
    arrangement = _arrange(experiment, population_size(settings), sizes)
    # one device fills the cache
    caching = views * sizes.train * _teacher_flops(experiment, sizes.num_classes)
    params, stats = memory.network_bytes(experiment.space, sizes.num_classes)
    teacher_disk = 0 if trained else params + stats + OVERHEAD_BYTES
    # a snapshot has momentum, too, a teacher's its best evaluation; the one before goes later
    of_teacher = 0 if trained or spec.teacher else 3 * params + 2 * stats
    of_students = (2 * params + stats) * population_size(settings) if any(missing) else 0
    unfinished = 2 * (max(of_teacher, of_students) + OVERHEAD_BYTES)
    return TaskPlan(
        spec=spec,
        sizes=sizes,
        students=sum(map(len, missing)),
        teacher_work=0.0 if trained or spec.teacher else _teacher_work(experiment, spec, sizes),
        student_work=caching + _student_work(experiment, spec, sizes, missing, arrangement),
        disk=teacher_disk
        + views * OVERHEAD_BYTES
        + logit_cache.cache_bytes(views, sizes.train, sizes.num_classes, kd.cache_dtype),
        unfinished=unfinished,
        arrangement=arrangement if any(missing) else None,
    )


def _passes(sgd: SGDConfig, sizes: TaskSizes) -> int:
    """Forward passes of one image that a training comes to, evaluations included."""
    evaluations = math.ceil(sgd.epochs / sgd.eval_every)
    return _PASSES * sgd.epochs * sizes.train + evaluations * sizes.valid


def _teacher_flops(experiment: Experiment, num_classes: int) -> int:
    full, size = experiment.space.full(), experiment.image_size
    return int(cost.num_flops(experiment.space, full, image_size=size, num_classes=num_classes))


def _teacher_work(experiment: Experiment, spec: TaskSpec, sizes: TaskSizes) -> float:
    """Multiply-adds that training the teacher takes of each device."""
    sgd = experiment.teacher_of(spec).sgd
    layout = parallel.choose_layout(experiment.devices, 1, sgd.batch_size)
    flops = _teacher_flops(experiment, sizes.num_classes)
    return flops * _passes(sgd, sizes) / len(layout.devices)


def _student_work(
    experiment: Experiment,
    spec: TaskSpec,
    sizes: TaskSizes,
    missing: list[list[int]],
    arrangement: Arrangement,
) -> float:
    """Multiply-adds that distilling takes of each device, padding included."""
    kd, population = experiment.kd, population_size(experiment.database_of(spec))
    layout, k = arrangement.layout, arrangement.networks_per_step
    places = parallel.padded_size(population, layout, k)
    teacher = _teacher_flops(experiment, sizes.num_classes)
    flops = _full_width_flops(experiment, spec, sizes.num_classes)
    # validated once more before training, tested once after it
    passes = _passes(kd.sgd, sizes) + sizes.valid + sizes.test
    online = kd.sgd.epochs * sizes.train if kd.teacher_logits == "online" else 0
    work = 0.0
    for ids in [ids for students in missing for ids in batches(students, population)]:
        # the last student fills up the places
        batch = flops[ids].sum() + (places - len(ids)) * flops[ids[-1]]
        if k > 1:
            # networks that are vmapped skip no block
            batch = places * teacher
        # a pass of the teacher serves all students of a device
        work += batch * passes / len(layout.devices) + teacher * online / layout.image_shards
    return work


def _full_width_flops(experiment: Experiment, spec: TaskSpec, num_classes: int) -> np.ndarray:
    """Multiply-adds that one image takes of each student, padded to the teacher's widths."""
    students = cost.at_full_width(experiment.space, sample_students(experiment, spec))
    size = experiment.image_size
    flops = cost.num_flops(experiment.space, students, image_size=size, num_classes=num_classes)
    return np.asarray(flops, np.float64)


def _arrange(experiment: Experiment, population: int, sizes: TaskSizes) -> Arrangement:
    kd = experiment.kd
    return memory.arrange(
        experiment.space, experiment.devices, population, networks_per_step=kd.networks_per_step,
        batch_size=kd.sgd.batch_size, image_size=experiment.image_size,
        num_classes=sizes.num_classes, num_images=sizes.train + sizes.valid + sizes.test,
    )  # fmt: skip


def _row(plan: TaskPlan, rate: float) -> list[object]:
    sizes = plan.sizes
    return [
        plan.spec.name,
        plan.spec.role,
        sizes.num_classes,
        f"{sizes.train}/{sizes.valid}/{sizes.test}",
        plan.students,
        duration(plan.teacher_work / rate),
        duration(plan.student_work / rate),
        f"{count(plan.disk)}B",
        f"{count(plan.arrangement.memory.total)}B" if plan.arrangement else "-",
    ]


def _same_views(experiment: Experiment) -> str | None:
    """What users should know who measure students more than once."""
    kd = experiment.kd
    most = max((experiment.database_of(s).replicates for s in experiment.student_tasks), default=1)
    if views_needed(kd, most) == most * kd.sgd.epochs or most == 1:
        return None
    return (
        f"Note: replicates share augmentation views, so that they differ less than other seeds "
        f"would: kd.num_views={most * kd.sgd.epochs} gives each epoch of each its own"
    )


def print_plan(experiment: Experiment, workdir: Workdir) -> list[TaskPlan]:
    """Predicts and prints what building a database takes.

    Args:
      experiment: The settings.
      workdir: Where it would lie.

    Returns:
      The plans of all tasks of which something is left to do.

    Raises:
      UserError: If the images of a task that is not finished cannot be read.
    """
    specs = [
        spec
        for spec in experiment.tasks
        if spec.role == "pretrain" or spec in experiment.student_tasks
    ]
    unfinished = [spec for spec in specs if has_work(experiment, workdir, spec)]
    if not unfinished:
        console.print(f"{len(specs)} tasks: nothing is left to do")
        return []
    plans = [plan_task(experiment, workdir, spec) for spec in unfinished]
    work = sum(plan.teacher_work + plan.student_work for plan in plans)
    rate = measured_rate(experiment)
    header = [
        "task",
        "role",
        "classes",
        "train/valid/test",
        "students",
        "teacher",
        "students' time",
        "disk",
        "memory",
    ]
    title = f"Plan: what is left to do, {len(plans)} of {len(specs)} tasks"
    print_table(title, header, [_row(plan, rate) for plan in plans])
    console.print(
        f"about {duration(work / rate)} and some seconds of compilation, "
        f"{count(sum(plan.disk for plan in plans))}B of disk in {workdir.root} and at most "
        f"{count(max(plan.unfinished for plan in plans))}B more while networks are trained; "
        f"{len(experiment.devices.local())} devices"
    )
    if note := _same_views(experiment):
        console.print(note)
    for plan in plans:
        if plan.arrangement is not None and not plan.arrangement.fits:
            console.print(
                f"Note: {plan.spec.name} may not fit into {count(plan.arrangement.limit or 0)}B of "
                "memory: lower database.students_per_batch, kd.sgd.batch_size or image_size"
            )
    return plans
