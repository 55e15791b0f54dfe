"""Tasks as the predictor sees them, made from teachers and measured students."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from dass_jax import cost, functional, probing, resnet
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.meta_tasks import TaskBatch
from dass_jax.predictor.graph import Graph, architecture_graph
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.randomness import Stream, task_key
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.task_facts import NUM_FACTS, task_facts
from dass_jax.teacher import TeacherResult
from dass_jax.training import steps_per_epoch
from dass_jax.untrained import Untrained, the_teacher
from dass_jax.workflow import prepare


@functools.partial(jax.jit, static_argnames=("space", "image_size", "num_classes"))
def _graphs(
    space: ResNetSpace, architectures: Architecture, *, image_size: int, num_classes: int
) -> Graph:
    sizes = {"image_size": image_size, "num_classes": num_classes}
    return jax.vmap(lambda one: architecture_graph(space, one, **sizes))(architectures)


@functools.partial(jax.jit, static_argnums=0)
def _encodings(space: ResNetSpace, architectures: Architecture) -> Float[Array, "N E"]:
    return jax.vmap(space.encode)(architectures)


def probe_images(
    experiment: Experiment, spec: TaskSpec, images: prepare.TaskImages, number: int
) -> Int[Array, " P"]:
    """Places of training images of a task that untrained students are shown, at most so many."""
    count = len(images.train.labels)
    key = task_key(experiment.seed, spec.name, Stream.PROBE)
    return jax.random.permutation(key, count)[:number]


def untrained_students(
    experiment: Experiment,
    spec: TaskSpec,
    teacher: TeacherResult,
    architectures: Architecture,
    student_ids: np.ndarray,
) -> Untrained:
    """N students of a task with the weights that they inherit."""
    variables = jax.tree.map(jnp.asarray, teacher.variables)
    init_key = task_key(experiment.seed, spec.name, Stream.STUDENT_INIT)
    return Untrained(
        experiment.space, variables, architectures, student_ids, init_key,
        kind=experiment.kd.remapping, devices=experiment.devices,
    )  # fmt: skip


def student_inputs(
    experiment: Experiment,
    students: Untrained,
    images: UInt8[Array, "P H W 3"] | None,
) -> StudentInputs:
    """What the predictor sees of untrained students; the rest is left out.

    Args:
      experiment: The settings.
      students: N students of one teacher.
      images: Those at ``probe_images``, if the predictor sees any.

    Returns:
      The inputs, on the device, with a leading axis N.
    """
    wanted = experiment.predictor.student_fields
    architectures = jax.tree.map(jnp.asarray, students.architectures)
    inputs = StudentInputs()
    if "noise_map" in wanted:
        image = functional.noise_image(experiment.image_size)
        maps = functional.noise_maps(students, image)
        inputs = inputs._replace(noise_map=jnp.asarray(maps))
    if "encoding" in wanted:
        inputs = inputs._replace(encoding=_encodings(students.space, architectures))
    if "graph" in wanted:
        num_classes = resnet.num_classes(students.variables)
        sizes = {"image_size": experiment.image_size, "num_classes": num_classes}
        inputs = inputs._replace(graph=_graphs(students.space, architectures, **sizes))
    if "costs" in wanted:
        shares = cost.log_shares(
            students.space, students.architectures, image_size=experiment.image_size
        )
        inputs = inputs._replace(costs=jnp.asarray(shares))
    if images is not None and (probed := wanted & set(probing.Probe._fields)):
        teacher = probing.teacher_response(students.space, students.variables, images)
        probe = probing.probe(students, images, teacher)
        seen: dict[str, Any] = {name: jnp.asarray(getattr(probe, name)) for name in probed}
        inputs = inputs._replace(**seen)
    return inputs


class TaskContext(NamedTuple):
    """What all students of a task share, as the predictor sees it.

    Attributes:
      spec: The task.
      teacher: Its teacher.
      images: Images at ``probe_images``, if the predictor sees any.
      alone: The task with the teacher as its only student.
    """

    spec: TaskSpec
    teacher: TeacherResult
    images: UInt8[Array, "P H W 3"] | None
    alone: TaskBatch


def _facts(
    experiment: Experiment, images: prepare.TaskImages, teacher: TeacherResult
) -> Float[np.ndarray, "F"]:
    """The facts of a task whose students the experiment's KD makes."""
    num_images, num_classes = len(images.train.labels), resnet.num_classes(teacher.variables)
    sgd = experiment.kd.sgd
    return task_facts(
        num_steps=steps_per_epoch(num_images, sgd.batch_size) * sgd.epochs,
        images_per_class=num_images / num_classes,
        teacher_accuracy=teacher.accuracy,
        chance=1 / num_classes,
    )


def task_context(
    experiment: Experiment,
    spec: TaskSpec,
    data: prepare.TaskImages,
    teacher: TeacherResult,
) -> TaskContext:
    """All that a predictor sees of a task but its students.

    Args:
      experiment: The settings.
      spec: The task.
      data: Its images.
      teacher: Its teacher.
    """
    space = experiment.space
    variables = jax.tree.map(jnp.asarray, teacher.variables)
    images = pooled = None
    if experiment.predictor.sees_images:
        chosen = probe_images(experiment, spec, data, experiment.predictor.probe_images)
        images = data.train.images[chosen]
    if "D" in experiment.predictor.inputs:
        pooled = probing.teacher_response(space, variables, images).pooled
    as_student = student_inputs(experiment, the_teacher(space, variables), images)
    alone = TaskBatch(
        students=as_student,
        accuracies=jnp.zeros(1),
        valid=jnp.ones(1, bool),
        teacher=jax.tree.map(lambda leaf: leaf[0], as_student),
        teacher_accuracy=jnp.asarray(teacher.accuracy, jnp.float32),
        chance=jnp.asarray(1 / resnet.num_classes(variables), jnp.float32),
        images=pooled,
        facts=jnp.asarray(_facts(experiment, data, teacher)),
    )
    return TaskContext(spec, teacher, images, alone)


def embed_students(
    experiment: Experiment,
    context: TaskContext,
    architectures: Architecture,
    student_ids: np.ndarray,
) -> StudentInputs:
    """What the predictor sees of N students of a task; see ``student_inputs``.

    Args:
      experiment: The settings.
      context: The task and its teacher.
      architectures: N students.
      student_ids: Their stable ids.
    """
    students = untrained_students(
        experiment, context.spec, context.teacher, architectures, student_ids
    )
    students = students._replace(kind=experiment.predictor.remapping or students.kind)
    return student_inputs(experiment, students, context.images)


def task_of(
    context: TaskContext, students: StudentInputs, accuracies: np.ndarray | None = None
) -> TaskBatch:
    """One task as the predictor sees it, without the task axis.

    Args:
      context: The task and its teacher.
      students: N students.
      accuracies: Their measured accuracies, if known; zeros stand for unknown ones.
    """
    count = len(jax.tree.leaves(students)[0])
    targets = np.zeros(count) if accuracies is None else accuracies
    return context.alone._replace(
        students=students,
        accuracies=jnp.asarray(targets, jnp.float32),
        valid=jnp.ones(count, bool),
    )


def example_task(experiment: Experiment) -> TaskBatch:
    """A task of one student with what the predictor sees of any; its numbers mean nothing."""
    space, config = experiment.space, experiment.predictor
    size = experiment.image_size // math.prod(space.strides)
    maps = jnp.zeros((size, size, space.stage_widths[-1]))
    full = jax.tree.map(lambda leaf: leaf[None], space.full())
    graphs = _graphs(space, full, image_size=experiment.image_size, num_classes=2)
    seen = StudentInputs(
        noise_map=maps,
        graph=jax.tree.map(lambda leaf: leaf[0], graphs),
        encoding=space.encode(space.full()),
        image_map=maps,
        disagreement=jnp.zeros(len(probing.MEASURES)),
        costs=jnp.zeros(3),
    )
    teacher = StudentInputs(**{name: getattr(seen, name) for name in config.student_fields})
    features = jnp.zeros((config.probe_images, space.stage_widths[-1]))
    return TaskBatch(
        students=jax.tree.map(lambda leaf: leaf[None], teacher),
        accuracies=jnp.zeros(1),
        valid=jnp.ones(1, bool),
        teacher=teacher,
        teacher_accuracy=jnp.ones(()),
        chance=jnp.zeros(()),
        images=features if "D" in config.inputs else None,
        facts=jnp.zeros(NUM_FACTS),
    )
