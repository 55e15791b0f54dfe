"""What a student's size alone says; higher is better."""

import numpy as np
from jaxtyping import Float

from dass_jax import cost, resnet
from dass_jax.baselines.candidates import Candidates


def nothing(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """The same for all students: measures average over ties, so this is a choice at random."""
    return np.zeros(len(candidates.students.student_ids))


def num_params(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Trainable parameters."""
    students = candidates.students
    classes = resnet.num_classes(students.variables)
    counts = cost.num_params(students.space, students.architectures, num_classes=classes)
    return counts.astype(float)


def num_flops(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Multiply-adds of the convolutions and the dense layer for one image."""
    students = candidates.students
    counts = cost.num_flops(
        students.space,
        students.architectures,
        image_size=candidates.image_size,
        num_classes=resnet.num_classes(students.variables),
    )
    return counts.astype(float)


def total_depth(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Active blocks of all stages together."""
    return np.asarray(candidates.students.architectures.depths).sum(-1).astype(float)
