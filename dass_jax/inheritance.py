"""Where students begin: with their teacher's weights, as ``remapping`` passes them on.

Dimension letters: K students.
"""

import functools
from typing import NamedTuple

import jax
from jaxtyping import Array, Int, Key

from dass_jax import parallel, resnet, training
from dass_jax.randomness import fold_in
from dass_jax.remapping import Kind, remap
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.training import Plan, TrainState


class Origin(NamedTuple):
    """What the students of a task come from.

    Attributes:
      teacher: The teacher's variables.
      init_key: Key of what is not inherited; a student's id is folded in.
    """

    teacher: resnet.Variables
    init_key: Key[Array, ""]


class Students(NamedTuple):
    """Students to be.

    Attributes:
      architectures: K architectures.
      ids: Their stable ids, which key ``random_init`` alone, [K].
    """

    architectures: Architecture
    ids: Int[Array, " K"]


@functools.partial(jax.jit, static_argnums=(0, 1))
def inherit(space: ResNetSpace, kind: Kind, students: Students, origin: Origin) -> resnet.Variables:
    """Initial variables of K students, with a leading K axis."""

    def one(architecture: Architecture, student_id: Array) -> resnet.Variables:
        key = fold_in(origin.init_key, student_id)
        return remap(space, origin.teacher, architecture, kind, key)

    return jax.vmap(one)(*students)


def initial_states(plan: Plan, kind: Kind, students: Students, origin: Origin) -> TrainState:
    """What training begins with; every device makes its own students.

    Args:
      plan: The static side of training.
      kind: How weights are remapped.
      students: K students, placed.
      origin: What they come from.

    Returns:
      K states, placed.
    """
    run = parallel.compiled(_of_one_device, (plan, kind), plan.layout)
    return run((), students, parallel.place(plan.layout, origin))


def _of_one_device(
    plan: Plan,
    kind: Kind,
    image_axis: str | None,
    carried: tuple[()],
    students: Students,
    origin: Origin,
) -> TrainState:
    del image_axis, carried
    return training.init_states(plan, inherit(plan.space, kind, students, origin))
