"""Students before any training: the teacher's weights under their masks.

Dimension letters: K students.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from dass_jax import resnet
from dass_jax.population import map_population
from dass_jax.randomness import fold_in
from dass_jax.remapping import Kind, check_kind, remap
from dass_jax.search_space import Architecture, ResNetSpace, stack


class Untrained(NamedTuple):
    """Students as they are before training.

    Attributes:
      space: The search space.
      variables: The teacher.
      architectures: K students.
      student_ids: Their stable ids, which key ``random_init`` alone.
      init_key: The task's key of student initialisation.
      kind: How students inherit the teacher's weights.
    """

    space: ResNetSpace
    variables: resnet.Variables
    architectures: Architecture
    student_ids: Int[np.ndarray, " K"]
    init_key: Key[Array, ""]
    kind: Kind = "copy_paste_first"


def the_teacher(space: ResNetSpace, variables: resnet.Variables) -> Untrained:
    """The teacher as its own only student: it inherits all of itself."""
    ids = np.zeros(1, np.int32)
    return Untrained(space, variables, stack([space.full()]), ids, jax.random.key(0))


@functools.partial(jax.jit, static_argnames=("function", "space", "kind", "networks_per_step"))
def _map_chunk(
    function: Callable[..., Any],
    space: ResNetSpace,
    kind: Kind,
    variables: resnet.Variables,
    init_key: Key[Array, ""],
    students: tuple[Architecture, Int[Array, " K"]],
    arguments: tuple,
    networks_per_step: int | None,
) -> Any:
    def one(student: tuple[Architecture, Array]) -> Any:
        architecture, student_id = student
        own = remap(space, variables, architecture, kind, fold_in(init_key, student_id))
        return function(space, own, architecture, *arguments)

    size = students[1].shape[0]
    return map_population(one, students, size=size, requested=networks_per_step)


def map_students(
    function: Callable[..., Any],
    students: Untrained,
    *arguments: Any,
    batch_size: int = 256,
    networks_per_step: int | None = None,
) -> Any:
    """Maps a function of one untrained student over K of them, in compiled batches.

    Args:
      function: ``function(space, variables, architecture, *arguments)``, a pytree of arrays; the
        same object for the same function, since it is compiled once.
      students: K students.
      *arguments: Arrays that all students share.
      batch_size: Students per compiled call; the last call is filled up, so that one compilation
        serves any number of students.
      networks_per_step: k, students vmapped at a time within a call.

    Returns:
      The results on the host, stacked along a leading axis K.
    """
    check_kind(students.space, students.kind)
    count = len(students.student_ids)
    batch_size = min(batch_size, count)
    places = np.arange(count + -count % batch_size) % count
    chunks = []
    for chunk in places.reshape(-1, batch_size):
        members = jax.tree.map(
            lambda leaf, chunk=chunk: jnp.asarray(leaf)[chunk],
            (students.architectures, students.student_ids),
        )
        result = _map_chunk(
            function, students.space, students.kind, students.variables, students.init_key,
            members, arguments, networks_per_step=networks_per_step,
        )  # fmt: skip
        chunks.append(jax.tree.map(np.asarray, result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *chunks)
