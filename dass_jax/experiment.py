"""Everything that defines an experiment, typed: what a file under ``configs/`` fills in."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ml_collections import ConfigDict

from dass_jax import settings
from dass_jax.data.augmentation import Augmentation
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import DistillConfig
from dass_jax.errors import UserError
from dass_jax.fidelity import Fidelity, at_fidelity
from dass_jax.meta_learning import MetaConfig
from dass_jax.parallel import Devices
from dass_jax.predictor.model import PredictorConfig
from dass_jax.resnet import check_image_size
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import ResNetSpace
from dass_jax.teacher import TeacherConfig


@dataclasses.dataclass(frozen=True)
class DatabaseConfig:
    """How many students are measured.

    Attributes:
      students_per_task: Students sampled for each task.
      replicates: How often each student is distilled, with other image orders and views.
      students_per_batch: K, students trained together; finished batches are what a stopped build
        keeps.
    """

    students_per_task: int = 50
    replicates: int = 1
    students_per_batch: int = 10

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise UserError(f"{field.name} must be at least 1")


def _with_own(shared: Any, own: Mapping[str, Any]) -> Any:
    """A task's own values, where it has any, instead of the experiment's."""
    given = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(shared, **given)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment; the defaults are the paper's.

    Attributes:
      seed: Every random number derives from it.
      image_size: Height and width of all images, in pixels.
      space: The teacher's shape and the students within.
      augmentation: What training views may do.
      teacher: How teachers are trained.
      kd: How the database's students are distilled.
      final: How the winner of a search is distilled.
      database: How many students are measured.
      devices: Which local devices do the work.
      fidelity: Cheaper labels; ``from_config`` puts it into effect.
      target: The measured accuracy that the predictor learns, and that source tasks judge it by:
        the validation accuracy after the last epoch, the best one, or the accuracy after the last
        epoch over validation and test images together, which is less noisy. Test images of source
        tasks serve nothing else; those of unseen tasks are not touched.
      predictor: What the predictor sees, and its sizes.
      meta: How the predictor is meta-trained.
      search: How students are searched for.
      tasks: The tasks, in alphabetical order.
    """

    seed: int = 0
    image_size: int = 64
    space: ResNetSpace = ResNetSpace((32, 64, 128, 256), 5)
    augmentation: Augmentation = Augmentation()
    teacher: TeacherConfig = TeacherConfig()
    kd: DistillConfig = DistillConfig()
    final: DistillConfig = DistillConfig()
    database: DatabaseConfig = DatabaseConfig()
    devices: Devices = Devices()
    fidelity: Fidelity = Fidelity()
    target: Literal["final_accuracy", "best_accuracy", "pooled_accuracy"] = "final_accuracy"
    predictor: PredictorConfig = PredictorConfig()
    meta: MetaConfig = MetaConfig()
    search: SearchConfig = SearchConfig()
    tasks: tuple[TaskSpec, ...] = ()

    def __post_init__(self) -> None:
        check_image_size(self.space, self.image_size)
        for spec in self.tasks:
            if spec.teacher_init is None:
                continue
            if self.task(spec.teacher_init).teacher_init is not None:
                raise UserError(
                    f"task {spec.name}: teacher_init names {spec.teacher_init}, whose teacher "
                    "starts from another one itself: name a task that starts afresh"
                )

    def task(self, name: str) -> TaskSpec:
        """The task of this name.

        Raises:
          UserError: If there is none.
        """
        for spec in self.tasks:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.tasks)
        raise UserError(f"there is no task {name!r} in this experiment: choose from {known}")

    def teacher_of(self, spec: TaskSpec) -> TeacherConfig:
        """How a task's teacher is trained."""
        own = {"learning_rate": spec.teacher_learning_rate, "epochs": spec.teacher_epochs}
        return dataclasses.replace(self.teacher, sgd=_with_own(self.teacher.sgd, own))

    def database_of(self, spec: TaskSpec) -> DatabaseConfig:
        """How many students of a task are measured, and how often."""
        own = {"students_per_task": spec.students, "replicates": spec.replicates}
        return _with_own(self.database, own)

    @property
    def student_tasks(self) -> tuple[TaskSpec, ...]:
        """The tasks that students are distilled for."""
        return tuple(s for s in self.tasks if s.role != "pretrain" and s.students != 0)

    def with_role(self, *roles: str) -> tuple[TaskSpec, ...]:
        """The tasks that have one of these roles."""
        return tuple(spec for spec in self.tasks if spec.role in roles)


def default_config() -> ConfigDict:
    """The paper's experiment as an editable configuration, without tasks."""
    config = settings.to_config(Experiment())
    del config.tasks
    config.tasks = ConfigDict()
    return config


def from_config(config: ConfigDict) -> Experiment:
    """Checks a configuration.

    Args:
      config: From ``default_config``, with ``tasks`` mapping names to fields of ``TaskSpec``.

    Returns:
      The typed experiment.

    Raises:
      UserError: If a field is unknown or of the wrong type, or there is no task.
    """
    values: dict[str, Any] = config.to_dict()
    tasks: Mapping[str, Any] = values.pop("tasks", {})
    if not tasks:
        raise UserError("config.tasks is empty: name at least one task")
    for name, fields in tasks.items():
        if not isinstance(fields, Mapping):
            raise UserError(f"config.tasks.{name} is {fields!r}: give the fields of a task")
    specs = tuple(
        settings.build(TaskSpec, {"name": name, **fields}, f"config.tasks.{name}")
        for name, fields in tasks.items()
    )
    experiment = settings.build(Experiment, values)
    return at_fidelity(dataclasses.replace(experiment, tasks=specs))
