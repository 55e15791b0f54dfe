"""Where every random number of a run comes from (stable ids folded into one seed).

Image order and views depend on (task, replicate, epoch) alone, never on the student, so that all
students of a task share images and teacher logits. The student's id keys only ``random_init``.
"""

import enum
import zlib

import jax
from jaxtyping import Array, Int, Key


class Stream(enum.IntEnum):
    """Independent streams of one task; a value is never reused for another purpose."""

    TEACHER_INIT = 0
    TEACHER_ORDER = 1
    TEACHER_VIEWS = 2
    ORDER = 3
    VIEWS = 4
    STUDENT_INIT = 5
    ARCHITECTURES = 6
    CANDIDATES = 7
    RANDOM_STUDENTS = 8
    PROBE = 9


def fold_in(key: Key[Array, ""], *ids: int | Int[Array, ""]) -> Key[Array, ""]:
    """Folds several ids into a key, one after another."""
    for value in ids:
        key = jax.random.fold_in(key, value)
    return key


def task_key(seed: int, task: str, stream: Stream) -> Key[Array, ""]:
    """The key of one stream of one task; the task's name is hashed by CRC-32."""
    return fold_in(jax.random.key(seed), zlib.crc32(task.encode()), stream)
