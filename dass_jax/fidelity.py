"""Cheaper labels: the same experiment with shorter training, fewer images, or smaller networks."""

import dataclasses
from typing import TYPE_CHECKING

from dass_jax.errors import UserError

if TYPE_CHECKING:
    from dass_jax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """What a cheaper version of an experiment changes; the defaults change nothing.

    Its results are a database of their own: records say how they were made.

    Attributes:
      epochs: Of distilling the database's students.
      train_per_class: Training images of each class, at most, in every task.
      image_size: Height and width, in pixels.
      width_multiplier: Scales the widths of all stages, in (0, 1].
    """

    epochs: int | None = None
    train_per_class: int | None = None
    image_size: int | None = None
    width_multiplier: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "train_per_class", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: give 1 or more")
        if not 0 < self.width_multiplier <= 1:
            raise UserError(f"width_multiplier is {self.width_multiplier}: give one in (0, 1]")


def at_fidelity(experiment: "Experiment") -> "Experiment":
    """The experiment with its ``fidelity`` put into effect.

    Raises:
      UserError: If the widths become fractions, or the images do not suit the network.
    """
    fidelity = experiment.fidelity
    sgd, space = experiment.kd.sgd, experiment.space
    scaled = [width * fidelity.width_multiplier for width in space.stage_widths]
    if any(width != int(width) for width in scaled):
        raise UserError(
            f"fidelity.width_multiplier {fidelity.width_multiplier} gives the stage widths "
            f"{', '.join(f'{width:g}' for width in scaled)}: they must be whole numbers"
        )
    space = dataclasses.replace(space, stage_widths=tuple(map(int, scaled)))
    sgd = dataclasses.replace(sgd, epochs=fidelity.epochs or sgd.epochs)
    tasks = experiment.tasks
    if (most := fidelity.train_per_class) is not None:
        tasks = tuple(
            dataclasses.replace(spec, train_per_class=min(spec.train_per_class or most, most))
            for spec in tasks
        )
    return dataclasses.replace(
        experiment,
        image_size=fidelity.image_size or experiment.image_size,
        space=space,
        kd=dataclasses.replace(experiment.kd, sgd=sgd),
        tasks=tasks,
    )
