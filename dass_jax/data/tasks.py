"""A task: the images of some classes of a dataset, cut into training, validation and test parts."""

import dataclasses
from typing import Literal, get_args

from dass_jax.data.domains import RENDERINGS, Domain, render
from dass_jax.data.images import ImageDataset, Images
from dass_jax.data.sources import load
from dass_jax.data.splitting import limit_per_class
from dass_jax.errors import UserError

Role = Literal["meta_train", "meta_valid", "meta_test", "pretrain"]


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """Where a task's images come from and how many of them it uses.

    Attributes:
      name: Unique; names the task's folders and keys its random numbers.
      role: ``meta_train`` tasks train the predictor, ``meta_valid`` tasks select it,
        ``meta_test`` tasks are unseen; of a ``pretrain`` task only the teacher is wanted, as the
        one that others' teachers start from.
      source: What ``data.load`` takes.
      classes: Which classes of the source, by index; all of them if empty.
      num_classes: How many classes a generated source shall have.
      seed: Draws images of a limited number, and generated classes.
      train_per_class: Training images of each class, at most; all of them if None.
      valid_per_class: Validation images of each class, cut from the training images.
      test_per_class: Test images of each class, at most; all of them if None.
      test_fraction: Share of each class that becomes the test split, for sources that have none of
        their own only.
      domain: What the images are rendered as, see ``data.domains``; as they are if None.
      teacher_learning_rate: This task's own instead of the experiment's, if given; the paper takes
        0.01 rather than 0.05 on its small unseen datasets.
      teacher_epochs: How long this task's teacher is trained, likewise.
      teacher_init: The task whose teacher this one's starts from, all but the dense layer; a fresh
        start if None.
      teacher: The file or folder of a trained teacher: official PyTorch weights or a checkpoint;
        one is trained if None. The validation images should be none that it was trained on, or it
        looks too good: name a source whose training split it has not seen.
      teacher_accuracy: Its accuracy on such images, a fraction; what is measured on the validation
        images if None.
      students: How many students are measured; this task's own instead of the experiment's, if
        given. 0 suits a task that one only wants a student for.
      replicates: How often each student is distilled, likewise.
    """

    name: str
    role: Role
    source: str
    classes: tuple[int, ...] = ()
    num_classes: int | None = None
    seed: int = 0
    train_per_class: int | None = None
    valid_per_class: int = 10
    test_per_class: int | None = None
    test_fraction: float | None = None
    domain: Domain | None = None
    teacher_learning_rate: float | None = None
    teacher_epochs: int | None = None
    teacher_init: str | None = None
    teacher: str | None = None
    teacher_accuracy: float | None = None
    students: int | None = None
    replicates: int | None = None

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise UserError(
                f"task {self.name!r} has the role {self.role!r}: "
                f"choose one of {', '.join(get_args(Role))}"
            )
        if self.domain not in (None, *RENDERINGS):
            raise UserError(
                f"task {self.name!r} has the domain {self.domain!r}: "
                f"choose one of {', '.join(RENDERINGS)}"
            )
        if not self.name or not self.name.replace("_", "").replace("-", "").isalnum():
            raise UserError(
                f"task name {self.name!r}: use letters, digits, '_' and '-', it names a folder"
            )
        if self.students == 0 and self.role in ("meta_train", "meta_valid"):
            raise UserError(f"task {self.name}: the predictor needs students of a {self.role} task")
        if self.teacher is not None and self.teacher_init is not None:
            raise UserError(f"task {self.name}: give teacher or teacher_init, not both")
        if self.teacher_accuracy is not None:
            if self.teacher is None:
                raise UserError(f"task {self.name}: teacher_accuracy is for a given teacher alone")
            if not 0 < self.teacher_accuracy <= 1:
                raise UserError(
                    f"task {self.name}: teacher_accuracy is {self.teacher_accuracy}: "
                    "give a fraction in (0, 1]"
                )


def _limit(images: Images, count: int | None, seed: int) -> Images:
    return images if count is None else limit_per_class(images, count, seed)


def load_task(spec: TaskSpec, image_size: int) -> ImageDataset:
    """Reads a task's images.

    Args:
      spec: The task.
      image_size: Height and width that images are resized to, in pixels.

    Returns:
      The images; validation is cut from the training split by the task's seed.

    Raises:
      UserError: If the source cannot be read or has too few images.
    """
    magnification = 1 if spec.domain is None else RENDERINGS[spec.domain].magnification
    dataset = load(
        spec.source,
        image_size=image_size * magnification,
        classes=spec.classes or None,
        num_classes=spec.num_classes,
        valid_per_class=spec.valid_per_class,
        test_fraction=spec.test_fraction,
        seed=spec.seed,
    )
    train, valid, test = (
        images if spec.domain is None else render(images, spec.domain)
        for images in (
            _limit(dataset.train, spec.train_per_class, spec.seed),
            dataset.valid,
            _limit(dataset.test, spec.test_per_class, spec.seed),
        )
    )
    return dataclasses.replace(dataset, train=train, valid=valid, test=test)
