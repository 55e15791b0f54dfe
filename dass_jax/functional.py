"""Functional embeddings' raw material: what an untrained student does to fixed noise.

DaSS (ICLR 2023) describes a network by the activation map of its last stage for one Gaussian
noise image, after remapping and before any training.

Dimension letters: K students, H W image size, h w C the last stage's map, C the teacher's channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dass_jax import resnet
from dass_jax.population import map_population
from dass_jax.randomness import fold_in
from dass_jax.remapping import Kind, check_kind, remap
from dass_jax.search_space import Architecture, ResNetSpace, stack


def noise_image(image_size: int, seed: int = 0) -> Float[Array, "1 H W 3"]:
    """The one standard normal image that all networks of an experiment see."""
    return jax.random.normal(jax.random.key(seed), (1, image_size, image_size, 3))


@functools.partial(jax.jit, static_argnames=("space", "kind", "networks_per_step"))
def _features(
    space: ResNetSpace,
    variables: resnet.Variables,
    architectures: Architecture,
    student_ids: Int[Array, " K"],
    image: Float[Array, "1 H W 3"],
    init_key: Key[Array, ""],
    *,
    kind: Kind,
    networks_per_step: int | None,
) -> Float[Array, "K h w C"]:
    def one(student: tuple[Architecture, Array]) -> Array:
        architecture, student_id = student
        student_variables = remap(
            space, variables, architecture, kind, fold_in(init_key, student_id)
        )
        features = resnet.apply(space, student_variables, architecture, image, train=False)[1]
        return features[f"stage{space.num_stages}"][0]

    return map_population(
        one,
        (architectures, student_ids),
        size=student_ids.shape[0],
        requested=networks_per_step,
    )


def student_features(
    space: ResNetSpace,
    variables: resnet.Variables,
    architectures: Architecture,
    student_ids: Int[np.ndarray, " K"],
    image: Float[Array, "1 H W 3"],
    init_key: Key[Array, ""],
    *,
    kind: Kind = "copy_paste_first",
    batch_size: int = 256,
    networks_per_step: int | None = None,
) -> Float[np.ndarray, "K h w C"]:
    """The last activation maps of remapped, untrained students in evaluation mode.

    Args:
      space: The search space.
      variables: The teacher.
      architectures: K students.
      student_ids: Their stable ids, which key ``random_init`` alone.
      image: From ``noise_image``.
      init_key: The task's key of student initialisation.
      kind: How students inherit the teacher's weights.
      batch_size: Students per compiled call; the last call is filled up, so that one compilation
        serves any number of students.
      networks_per_step: k, students vmapped at a time within a call.

    Returns:
      Maps on the host, zero beyond a student's channels, [K, h, w, C].
    """
    check_kind(space, kind)
    count = len(student_ids)
    batch_size = min(batch_size, count)
    positions = np.arange(count + -count % batch_size)
    positions = np.where(positions < count, positions, 0)
    maps = []
    for chunk in positions.reshape(-1, batch_size):
        batch = jax.tree.map(lambda leaf, chunk=chunk: jnp.asarray(leaf)[chunk], architectures)
        ids = jnp.asarray(student_ids)[chunk]
        maps.append(
            _features(
                space, variables, batch, ids, image, init_key,
                kind=kind, networks_per_step=networks_per_step,
            )
        )  # fmt: skip
    return np.concatenate([np.asarray(chunk) for chunk in maps])[:count]


def teacher_features(
    space: ResNetSpace, variables: resnet.Variables, image: Float[Array, "1 H W 3"]
) -> Float[np.ndarray, "h w C"]:
    """The teacher's own last activation map: it is its own student at full size."""
    return student_features(
        space, variables, stack([space.full()]), np.zeros(1, np.int32), image, jax.random.key(0)
    )[0]
