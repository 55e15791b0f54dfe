"""What describes a distilled student: its shape, what it takes, how good it is."""

import dataclasses
import pathlib
from typing import Any, Literal

from dass_jax import settings
from dass_jax.errors import UserError
from dass_jax.resnet import check_image_size
from dass_jax.search_space import ResNetSpace
from dass_jax.workdir import read_json

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """What the network takes: values in 0..255, which it normalises itself.

    Attributes:
      size: Height and width, in pixels.
      layout: Order of the axes: images, rows, columns, channels.
      channels: Order of the channels.
      dtype: Type of the values.
      mean: What the network subtracts from values that were scaled to 0..1.
      std: What it divides the difference by.
    """

    size: int
    layout: Literal["NHWC"] = "NHWC"
    channels: Literal["RGB"] = "RGB"
    dtype: Literal["uint8"] = "uint8"
    mean: float = 0.5
    std: float = 0.5

    def __post_init__(self) -> None:
        if (self.mean, self.std) != (0.5, 0.5):
            raise UserError(f"mean {self.mean} and std {self.std}: students take 0.5 and 0.5")


@dataclasses.dataclass(frozen=True)
class TeacherSummary:
    """Whom a student was distilled from.

    Attributes:
      stage_widths: Channels of each stage.
      stage_depth: Blocks of each stage.
      valid_accuracy: On the validation images, a fraction.
      test_accuracy: On the test images, a fraction.
      flops: Multiply-adds for one image.
      num_params: Trainable parameters.
      accuracy_given: Whether ``valid_accuracy`` is what the user said of other images instead.
    """

    stage_widths: tuple[int, ...]
    stage_depth: int
    valid_accuracy: float
    test_accuracy: float
    flops: int
    num_params: int
    accuracy_given: bool = False


@dataclasses.dataclass(frozen=True)
class Versions:
    """What a student was described by."""

    dass_jax: str
    jax: str


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """A distilled student without its weights.

    Attributes:
      task: What it was distilled for.
      image: What it takes.
      num_classes: How many logits it returns.
      block_widths: Channels of every block, one tuple per stage; the stem has the first's.
      strides: Stride of each stage's first block.
      valid_accuracy: On the validation images, a fraction.
      test_accuracy: On the test images, a fraction.
      flops: Multiply-adds for one image.
      num_params: Trainable parameters.
      weights_digest: See ``weights.digest``.
      versions: What it was described by.
      replicate: The seed with which it was distilled, if known.
      class_names: One for each logit, if known.
      teacher: Whom it was distilled from, if known.

    Raises:
      UserError: If these contradict each other.
    """

    task: str
    image: ImageInput
    num_classes: int
    block_widths: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    valid_accuracy: float
    test_accuracy: float
    flops: int
    num_params: int
    weights_digest: str
    versions: Versions
    replicate: int | None = None
    class_names: tuple[str, ...] | None = None
    teacher: TeacherSummary | None = None

    def __post_init__(self) -> None:
        check_image_size(smallest_space(self.block_widths, self.strides), self.image.size)
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise UserError(f"{len(self.class_names)} class_names for {self.num_classes} classes")


def smallest_space(
    block_widths: tuple[tuple[int, ...], ...], strides: tuple[int, ...]
) -> ResNetSpace:
    """The search space of the smallest teacher that contains a network.

    Raises:
      UserError: If there is no such network.
    """
    if not all(block_widths):
        raise UserError("block_widths must name at least one block for each stage")
    depth = max(map(len, block_widths), default=0)
    return ResNetSpace(tuple(map(max, block_widths)), depth, strides)


def to_json(config: StudentConfig, checksums: dict[str, str]) -> dict[str, Any]:
    """The contents of a ``config.json``.

    Args:
      config: The student.
      checksums: SHA-256 of each file beside it.
    """
    return {"format_version": FORMAT_VERSION} | dataclasses.asdict(config) | {"sha256": checksums}


def read_config(folder: pathlib.Path) -> tuple[StudentConfig, dict[str, str]]:
    """Reads the ``config.json`` of an exported student.

    Args:
      folder: Where it was exported to.

    Returns:
      The description, and the SHA-256 of each file beside it.

    Raises:
      UserError: If there is none, it is damaged, or of another version of the format.
    """
    path = folder / CONFIG_FILE
    values = read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("sha256"), dict):
        raise UserError(f"{path} describes no exported student")
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} is of format version {version}, but this dass_jax reads {FORMAT_VERSION}: "
            "export the student again"
        )
    checksums = values.pop("sha256")
    return settings.build(StudentConfig, values, str(path)), checksums
