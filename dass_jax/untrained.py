"""Students before any training: the teacher's weights under their masks.

Dimension letters: K students, P images of H W pixels, h w C the last stage's map, L classes.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dass_jax import parallel, resnet, supernet
from dass_jax.parallel import ALL_DEVICES, Devices, Layout, padded_size
from dass_jax.population import map_population
from dass_jax.randomness import fold_in
from dass_jax.remapping import Kind, check_kind, remap
from dass_jax.search_space import Architecture, ResNetSpace, stack

# Whose first maps, of all students of a device together, still fit into memory.
_MOST_IMAGES = 1024


class Untrained(NamedTuple):
    """Students as they are before training.

    Attributes:
      space: The search space.
      variables: The teacher.
      architectures: K students.
      student_ids: Their stable ids, which key ``random_init`` alone.
      init_key: The task's key of student initialisation.
      kind: How students inherit the teacher's weights.
      devices: Which devices run them.
    """

    space: ResNetSpace
    variables: resnet.Variables
    architectures: Architecture
    student_ids: Int[np.ndarray, " K"]
    init_key: Key[Array, ""]
    kind: Kind = "copy_paste_first"
    devices: Devices = ALL_DEVICES


def the_teacher(space: ResNetSpace, variables: resnet.Variables) -> Untrained:
    """The teacher as its own only student: it inherits all of itself."""
    ids = np.zeros(1, np.int32)
    return Untrained(space, variables, stack([space.full()]), ids, jax.random.key(0))


class Forward(NamedTuple):
    """What one network makes of P images.

    Attributes:
      logits: Its answers.
      last_map: The last stage's maps, zero beyond its channels.
    """

    logits: Float[Array, "P L"]
    last_map: Float[Array, "P h w C"]


@dataclasses.dataclass(frozen=True)
class _OfForward:
    """A function of a student's forward pass, as one of the student; hashable as its parts."""

    function: Callable[..., Any]
    train: bool

    def __call__(
        self,
        space: ResNetSpace,
        variables: resnet.Variables,
        architecture: Architecture,
        images: Array,
        *arguments: Any,
    ) -> Any:
        logits, maps, *_ = resnet.apply(space, variables, architecture, images, train=self.train)
        return self.function(Forward(logits, maps[f"stage{space.num_stages}"]), *arguments)


def _one_by_one(
    function: Callable[..., Any],
    space: ResNetSpace,
    kind: Kind,
    networks_per_step: int | None,
    image_axis: None,
    carried: tuple[()],
    students: tuple[Architecture, Int[Array, " K"]],
    shared: tuple,
) -> Any:
    """A function of one student over all of this device's."""
    del image_axis, carried
    variables, init_key, *arguments = shared

    def one(student: tuple[Architecture, Array]) -> Any:
        architecture, student_id = student
        own = remap(space, variables, architecture, kind, fold_in(init_key, student_id))
        return function(space, own, architecture, *arguments)

    size = students[1].shape[0]
    return map_population(one, students, size=size, requested=networks_per_step)


def _together(
    of_forward: _OfForward,
    space: ResNetSpace,
    image_axis: None,
    carried: tuple[()],
    students: tuple[Architecture, Int[Array, " K"]],
    shared: tuple,
) -> Any:
    """The same, for students that are one supernet's."""
    del image_axis, carried
    variables, _, images, *arguments = shared
    forwards = supernet.forward(space, variables, students[0], images, train=of_forward.train)
    return jax.vmap(lambda own: of_forward.function(own, *arguments))(Forward(*forwards))


def _in_batches(
    function: Callable[..., Any],
    static: tuple[Hashable, ...],
    students: Untrained,
    arguments: tuple,
    batch_size: int,
) -> Any:
    """Runs a function of one device's students over all students, on all devices."""
    check_kind(students.space, students.kind)
    count = len(students.student_ids)
    batch_size = min(batch_size, count)
    layout = Layout(students.devices.local()[:batch_size], transform=students.devices.transform)
    batch_size = padded_size(batch_size, layout, None)
    run = parallel.compiled(function, static, layout)
    shared = parallel.place(layout, (students.variables, students.init_key, *arguments))
    places = np.arange(count + -count % batch_size) % count
    chunks = []
    for chunk in places.reshape(-1, batch_size):
        members = jax.tree.map(
            lambda leaf, chunk=chunk: np.asarray(leaf)[chunk],
            (students.architectures, students.student_ids),
        )
        result = run((), parallel.place(layout, members, networks=True), shared)
        chunks.append(jax.tree.map(np.asarray, result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *chunks)


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
    static = (function, students.space, students.kind, networks_per_step)
    return _in_batches(_one_by_one, static, students, arguments, batch_size)


def map_forwards(
    function: Callable[..., Any],
    students: Untrained,
    images: Float[Array, "P H W 3"],
    *arguments: Any,
    train: bool = False,
    batch_size: int = 256,
) -> Any:
    """Maps a function of what a student makes of images over K students.

    Where the students are one supernet's, they all run together, which is several times as fast.

    Args:
      function: ``function(forward, *arguments)`` with a ``Forward``; as in ``map_students``.
      students: K students.
      images: Images in [-1, 1].
      *arguments: Arrays that all students share.
      train: Whether normalisation uses the statistics of the student's own batch.
      batch_size: As in ``map_students``; at most as many for each device as see
        ``_MOST_IMAGES`` together.

    Returns:
      The results on the host, stacked along a leading axis K.
    """
    of_forward = _OfForward(function, train)
    of_device = max(1, _MOST_IMAGES // len(images))
    batch_size = min(batch_size, of_device * len(students.devices.local()))
    if not supernet.covers(students.kind):
        return map_students(of_forward, students, images, *arguments, batch_size=batch_size)
    static = (of_forward, students.space)
    return _in_batches(_together, static, students, (images, *arguments), batch_size)
