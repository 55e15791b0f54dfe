"""What a baseline may look at, and how a function of one student is run over many.

Dimension letters: N students, K students of one compiled call, H W image size.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from dass_jax import resnet
from dass_jax.database import StudentRecord
from dass_jax.evaluation import Split
from dass_jax.population import map_population
from dass_jax.randomness import fold_in
from dass_jax.remapping import Kind, remap
from dass_jax.search_space import Architecture, ResNetSpace


class Candidates(NamedTuple):
    """N students of one task, and all that a baseline may know of it.

    Attributes:
      space: The search space.
      image_size: Height and width of the images in pixels.
      variables: The teacher.
      architectures: The students, [N, S] and [N, S, D].
      student_ids: Their stable ids, which key ``random_init`` alone, [N].
      init_key: The task's key of student initialisation.
      kind: How students inherit the teacher's weights; see ``remapping.remap``.
      probe: A batch of training images. Their labels are for proxies that need a loss.
      valid: Validation images.
      records: The same students measured, in the same order; only the baselines that ``MEASURING``
        names look at them.
      students_per_call: K. The last call is filled up, so that one compilation serves any N.
      networks_per_step: k, students vmapped at a time within a call; see ``population.py``.
    """

    space: ResNetSpace
    image_size: int
    variables: resnet.Variables
    architectures: Architecture
    student_ids: Int[np.ndarray, " N"]
    init_key: Key[Array, ""]
    kind: Kind
    probe: Split
    valid: Split
    records: Sequence[StudentRecord] | None = None
    students_per_call: int = 8
    networks_per_step: int | None = None


# (space, a student's variables, its architecture, what all students share) -> arrays
PerStudent = Callable[[ResNetSpace, resnet.Variables, Architecture, Any], Any]


def calls(candidates: Candidates) -> Iterator[tuple[Architecture, Int[np.ndarray, " K"]]]:
    """Cuts the students into calls of one size; copies of the first one fill up the last.

    Args:
      candidates: The students.

    Yields:
      K architectures and their ids.
    """
    count, size = len(candidates.student_ids), candidates.students_per_call
    positions = np.arange(count + -count % size)
    positions = np.where(positions < count, positions, 0)
    for chunk in positions.reshape(-1, size):
        architectures = jax.tree.map(
            lambda leaf, chunk=chunk: np.asarray(leaf)[chunk], candidates.architectures
        )
        yield architectures, np.asarray(candidates.student_ids)[chunk]


@functools.partial(jax.jit, static_argnames=("function", "space", "kind", "networks_per_step"))
def _compiled(
    function: PerStudent,
    space: ResNetSpace,
    variables: resnet.Variables,
    architectures: Architecture,
    student_ids: Int[Array, " K"],
    init_key: Key[Array, ""],
    shared: Any,
    *,
    kind: Kind,
    networks_per_step: int | None,
) -> Any:
    def one(student: tuple[Architecture, Array]) -> Any:
        architecture, student_id = student
        inherited = remap(space, variables, architecture, kind, fold_in(init_key, student_id))
        return function(space, inherited, architecture, shared)

    students = (architectures, student_ids)
    size = student_ids.shape[0]
    return map_population(one, students, size=size, requested=networks_per_step)


def run_call(
    candidates: Candidates,
    function: PerStudent,
    shared: Any,
    architectures: Architecture,
    student_ids: Int[np.ndarray, " K"],
) -> Any:
    """Runs a function of one student over those of one call, with inherited weights.

    Args:
      candidates: Where the students' weights come from.
      function: A function at the top of a module: each has a compilation of its own.
      shared: Arrays that are the same for all students.
      architectures: As ``calls`` yields them.
      student_ids: The same.

    Returns:
      The function's arrays on the device, with a leading K axis.

    Raises:
      UserError: If these students cannot inherit weights in this way.
    """
    return _compiled(
        function,
        candidates.space,
        candidates.variables,
        jax.tree.map(jnp.asarray, architectures),
        jnp.asarray(student_ids),
        candidates.init_key,
        shared,
        kind=candidates.kind,
        networks_per_step=candidates.networks_per_step,
    )


def map_students(candidates: Candidates, function: PerStudent, shared: Any = ()) -> Any:
    """Runs a function of one student over all of them, in compiled calls of one size.

    Args:
      candidates: N students.
      function: As in ``run_call``.
      shared: Arrays that are the same for all students.

    Returns:
      The function's arrays on the host, with a leading N axis.

    Raises:
      UserError: As ``run_call``.
    """
    results = [
        jax.tree.map(np.asarray, run_call(candidates, function, shared, *call))
        for call in calls(candidates)
    ]
    count = len(candidates.student_ids)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *results)
