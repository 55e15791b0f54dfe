"""Distilled networks as distillation keeps them: a checkpoint with its results."""

import pathlib

import jax

import dass_jax
from dass_jax import checkpoints, cost, resnet
from dass_jax.deployment import weights
from dass_jax.deployment.student_config import ImageInput, StudentConfig, Versions, smallest_space
from dass_jax.errors import UserError
from dass_jax.resnet import Variables


def read_kept(folder: pathlib.Path) -> tuple[StudentConfig, Variables]:
    """Reads one distilled network.

    Args:
      folder: Its own, ``WORKDIR/students/TASK/.../replicateN``.

    Returns:
      What its checkpoint says of it, and its variables at its own size, on the host.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    metadata = checkpoints.read_metadata(folder)
    if not {"architecture", "recipe", "final_accuracy", "test_accuracy"} <= metadata.keys():
        raise UserError(f"the checkpoint in {folder} is no distilled student")
    variables, _ = checkpoints.restore(folder, checkpoints.saved_shapes(folder))
    recipe = metadata["recipe"]
    widths, classes = resnet.block_widths(variables), resnet.num_classes(variables)
    space = smallest_space(widths, tuple(recipe["space"]["strides"]))
    student = space.architecture([len(row) for row in widths], widths)
    size = recipe["image_size"]
    config = StudentConfig(
        task=recipe["images"]["name"],
        image=ImageInput(size),
        num_classes=classes,
        block_widths=widths,
        strides=space.strides,
        valid_accuracy=metadata["final_accuracy"],
        test_accuracy=metadata["test_accuracy"],
        flops=int(cost.num_flops(space, student, image_size=size, num_classes=classes)),
        num_params=int(cost.num_params(space, student, num_classes=classes)),
        weights_digest=weights.digest(variables),
        versions=Versions(dass_jax.__version__, jax.__version__),
    )
    return config, variables
