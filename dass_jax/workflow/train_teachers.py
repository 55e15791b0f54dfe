"""Teachers of several tasks, with a table of them."""

from dass_jax import checkpoints
from dass_jax.console import console, duration, percent, print_table
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare


def train_teachers(experiment: Experiment, workdir: Workdir, specs: tuple[TaskSpec, ...]) -> None:
    """Trains the teachers of some tasks and prints a table of all of them."""
    rows = []
    for spec in specs:
        if prepare.has_teacher(workdir, spec):
            console.print(f"teacher {spec.name}: done before")
            result = prepare.load_teacher(experiment, workdir, spec)
        else:
            result = prepare.ensure_teacher(
                experiment, workdir, spec, prepare.load_images(experiment, spec)
            )
        metadata = checkpoints.read_metadata(workdir.teacher(spec.name) / "checkpoint")
        rows.append(
            [
                spec.name,
                spec.role,
                metadata["num_classes"],
                percent(1 / metadata["num_classes"]),
                percent(result.accuracy) + prepare.as_given(spec),
                percent(metadata["test_accuracy"]),
                result.epoch,
                duration(result.seconds),
            ]
        )
    header = ["task", "role", "classes", "chance", "validation", "test", "best epoch", "time"]
    print_table("Teachers", header, rows)
