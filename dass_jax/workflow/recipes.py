"""Which settings each stage's results depend on; each recipe contains those it builds on.

Left out is what changes no number, such as how many networks are vmapped at a time, and what only
adds results, such as the number of students.
"""

from collections.abc import Sequence

from dass_jax.data.tasks import TaskSpec
from dass_jax.database import StudentRecord
from dass_jax.distillation import DistillConfig
from dass_jax.experiment import Experiment
from dass_jax.recipe import Recipe, digest, plain

# To be raised when what a predictor sees of a student changes its meaning, as by other noise, graph
# features, shares of costs, measures of disagreement or their temperature: older files are then
# left alone.
INPUTS_VERSION = 1


def teacher_recipe(experiment: Experiment, spec: TaskSpec) -> Recipe:
    """What a task's teacher depends on."""
    images = plain(spec)
    for name in ("role", "students", "replicates"):
        images.pop(name)
    for name in ("teacher", "teacher_accuracy", "teacher_epochs", "domain"):
        if images[name] is None:
            images.pop(name)
    recipe = {
        "seed": experiment.seed,
        "image_size": experiment.image_size,
        "space": plain(experiment.space),
        "augmentation": plain(experiment.augmentation),
        "teacher": plain(experiment.teacher),
        "images": images,
    }
    if spec.teacher_init is not None:
        recipe["teacher_init"] = teacher_recipe(experiment, experiment.task(spec.teacher_init))
    return recipe


def student_recipe(experiment: Experiment, spec: TaskSpec, config: DistillConfig) -> Recipe:
    """What a distilled student of a task depends on."""
    kd = plain(config)
    kd.pop("networks_per_step")
    return teacher_recipe(experiment, spec) | {"kd": kd}


def inputs_recipe(
    experiment: Experiment, spec: TaskSpec, records: Sequence[StudentRecord]
) -> Recipe:
    """What the inputs of measured students depend on, beyond the weights and pixels themselves.

    It is the same for all predictors, whichever of these inputs they look at.

    Args:
      experiment: The settings.
      spec: The task.
      records: Its measured students, in the order of the inputs.
    """
    students = [(record.student_id, record.depths, record.widths) for record in records]
    return student_recipe(experiment, spec, experiment.kd) | {
        "inputs_version": INPUTS_VERSION,
        "remapping": experiment.predictor.remapping or experiment.kd.remapping,
        "probe_images": experiment.predictor.probe_images,
        "students": digest(students),
    }


def predictor_interface(experiment: Experiment) -> Recipe:
    """What a task must share with a predictor for it to be of use."""
    predictor = experiment.predictor
    interface = {
        "predictor": plain(predictor),
        "inner_steps": experiment.meta.inner_steps,
        "remapping": experiment.kd.remapping,
    }
    if not set("STID").isdisjoint(predictor.inputs):
        interface["last_stage_width"] = experiment.space.stage_widths[-1]
    if "A" in predictor.inputs and predictor.architecture == "flat":
        interface["space"] = plain(experiment.space)
    return interface


def predictor_recipe(experiment: Experiment, records_digest: str) -> Recipe:
    """What a meta-trained predictor depends on, measured students included."""
    roles = {spec.name: spec.role for spec in experiment.with_role("meta_train", "meta_valid")}
    return predictor_interface(experiment) | {
        "seed": experiment.seed,
        "meta": plain(experiment.meta),
        "space": plain(experiment.space),
        "image_size": experiment.image_size,
        "target": experiment.target,
        "roles": roles,
        "records": records_digest,
    }


def search_recipe(
    experiment: Experiment,
    spec: TaskSpec,
    *,
    predictor: str,
    records: str,
    device: str | None,
) -> Recipe:
    """What the result of a search depends on, but for the task's images and its teacher.

    Args:
      experiment: The settings.
      spec: The task.
      predictor: Digest of the predictor's recipe.
      records: Digest of the task's measured students.
      device: The device that latencies are limited on; None if they are not limited.
    """
    recipe = student_recipe(experiment, spec, experiment.final) | {
        "search": plain(experiment.search),
        # what is predicted, and what candidates are verified by
        "predicted_kd": student_recipe(experiment, spec, experiment.kd)["kd"],
        "predictor": predictor,
        "records": records,
    }
    return recipe if device is None else recipe | {"device": device}
