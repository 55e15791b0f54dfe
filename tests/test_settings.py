import dataclasses
import importlib.util
import pathlib
import runpy
from typing import Literal

import numpy as np
import pytest
from ml_collections import ConfigDict

from dass_jax import settings
from dass_jax.errors import UserError
from dass_jax.experiment import (
    DatabaseConfig,
    Experiment,
    SearchConfig,
    default_config,
    from_config,
)
from dass_jax.folds import make_folds

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["fast", "slow"] = "fast"
    on: bool = False

    def __post_init__(self):
        if self.rate < 0:
            raise UserError("rate must not be negative")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    count: int = 1
    sizes: tuple[int, ...] = (1, 2)
    shares: tuple[float, ...] = ()
    limit: int | None = None
    share: float | None = None


def test_plain_values_become_typed():
    values = {
        "name": "a",
        "inner": {"rate": 2, "kind": "slow", "on": True},
        "sizes": [3, 4],
        "shares": (1, 0.5),
        "limit": 7,
        "share": 1,
    }
    built = settings.build(Outer, values)
    assert built == Outer("a", Inner(2.0, "slow", True), 1, (3, 4), (1.0, 0.5), 7, 1.0)
    for value in (built.inner.rate, built.shares[0], built.share):
        assert type(value) is float
    assert settings.build(Outer, {"name": "a", "limit": None}) == Outer("a")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "here.name must be given"),
        ({"nam": "a"}, "here has no field 'nam': choose from name, inner, count"),
        ({"inner": {"rat": 1}}, "here.inner has no field 'rat': choose from rate, kind, on"),
        ({"count": 1.0}, "here.count is 1.0: give a int"),
        ({"count": True}, "here.count is True: give a int"),
        ({"inner": {"rate": True}}, "here.inner.rate is True: give a float"),
        ({"inner": {"rate": "1"}}, "here.inner.rate is '1': give a float"),
        ({"inner": {"on": 1}}, "here.inner.on is 1: give a bool"),
        ({"inner": 3}, "here.inner is 3: give a Inner"),
        ({"inner": {"kind": "other"}}, "here.inner.kind is 'other': choose one of fast, slow"),
        ({"inner": {"rate": -1.0}}, "here.inner: rate must not be negative"),
        ({"sizes": 3}, "here.sizes is 3: give a tuple"),
        ({"sizes": [1, 2.5]}, "here.sizes is 2.5: give a int"),
        ({"sizes": "12"}, "here.sizes is '12': give a tuple"),
        ({"limit": 1.5}, "here.limit is 1.5: give a int"),
        ({"limit": True}, "here.limit is True: give a int"),
        ({"name": None}, "here.name is None: give a str"),
    ],
)
def test_a_mistake_is_named_with_its_path(values, message):
    complete = values if "nam" in values or not values else {"name": "a"} | values
    with pytest.raises(UserError) as caught:
        settings.build(Outer, complete, "here")
    assert str(caught.value).startswith(message)


def test_settings_and_configurations_are_counterparts():
    original = Outer("a", Inner(0.25, "slow"), 3, (5,), (), None, 0.5)
    config = settings.to_config(original)
    assert set(config) == {field.name for field in dataclasses.fields(Outer)}
    assert settings.build(Outer, config.to_dict()) == original


def test_an_unset_optional_field_takes_its_type_alone():
    config = settings.to_config(Outer("a"))
    assert config.limit is None
    config.limit = 12
    assert settings.build(Outer, config.to_dict()).limit == 12
    with pytest.raises(TypeError):
        config.share = "much"


def with_tasks(config=None, **tasks):
    config = default_config() if config is None else config
    for name, fields in tasks.items():
        config.tasks[name] = fields
    return config


DIGITS = {"role": "meta_test", "source": "digits"}


def test_the_default_configuration_is_the_papers_experiment():
    experiment = from_config(with_tasks(digits=DIGITS))
    (spec,) = experiment.tasks
    assert dataclasses.replace(experiment, tasks=()) == Experiment()
    assert (spec.name, spec.role, spec.source) == ("digits", "meta_test", "digits")
    assert experiment.space.stage_widths == (32, 64, 128, 256)
    assert (experiment.teacher.sgd.epochs, experiment.kd.sgd.epochs) == (180, 50)
    assert (experiment.kd.loss.alpha, experiment.kd.loss.temperature) == (0.5, 6.0)
    assert experiment.meta.inner_lr == 0.005
    hash(experiment)


def test_tasks_are_found_by_name_and_by_role():
    tasks = {
        "b": {"role": "meta_train", "source": "generated:shapes"},
        "a": {"role": "meta_valid", "source": "generated:blobs", "classes": [2, 1]},
        "digits": DIGITS,
    }
    experiment = from_config(with_tasks(**tasks))
    assert [spec.name for spec in experiment.tasks] == ["a", "b", "digits"]
    assert experiment.task("a").classes == (2, 1)
    chosen = experiment.with_role("meta_train", "meta_test")
    assert [spec.name for spec in chosen] == ["b", "digits"]
    with pytest.raises(UserError, match="no task 'c' in this experiment: choose from a, b, digits"):
        experiment.task("c")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "config.tasks is empty"),
        ({"a": 3}, "config.tasks.a is 3: give the fields of a task"),
        ({"a": {"role": "meta_test"}}, "config.tasks.a.source must be given"),
        (
            {"a": DIGITS | {"role": "test"}},
            "config.tasks.a.role is 'test': choose one of meta_train, meta_valid, meta_test",
        ),
        ({"a": DIGITS | {"domain": "oil"}}, "config.tasks.a.domain is 'oil': choose one of gray"),
        ({"a": DIGITS | {"clases": (1, 2)}}, "config.tasks.a has no field 'clases'"),
        ({"a": DIGITS | {"classes": ("one",)}}, "config.tasks.a.classes is 'one': give a int"),
        ({"a": DIGITS | {"valid_per_class": None}}, "config.tasks.a.valid_per_class is None"),
        ({"a b": DIGITS}, "config.tasks.a b: task name 'a b': use letters, digits"),
        ({"a/b": DIGITS}, "config.tasks.a/b: task name 'a/b': use letters, digits"),
    ],
)
def test_wrong_tasks_are_refused(tasks, message):
    with pytest.raises(UserError) as caught:
        from_config(ConfigDict({"tasks": tasks}))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 20}, "config: "),
        ({"nonsense": 1}, "config has no field 'nonsense'"),
        ({"kd": {"sgd": {"epochs": 0}}}, "config.kd.sgd: epochs must be at least 1, got 0"),
        ({"kd": {"remapping": "copy"}}, "config.kd.remapping is 'copy': choose one of copy_paste"),
        ({"space": {"stage_widths": [4, 0], "stage_depth": 1}}, "config.space: stage_widths must"),
        ({"database": {"replicates": 0}}, "config.database: replicates must be at least 1"),
        ({"predictor": {"inputs": "SX"}}, "config.predictor: predictor inputs 'SX'"),
        ({"search": {"algorithm": "annealing"}}, "config.search.algorithm is 'annealing': choose"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(UserError) as caught:
        from_config(ConfigDict(values | {"tasks": {"digits": DIGITS}}))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 0}, "candidates is 0: give 1 or more"),
        ({"top_k": 0}, "top_k is 0: give 1 or more"),
        ({"replicates": 0}, "replicates is 0: give 1 or more"),
        ({"top_k": 6, "candidates": 5}, "top_k 6 is more than candidates 5"),
        ({"verify": 6, "candidates": 5}, "verify 6 is more than candidates 5"),
        ({"verify_epochs": 0}, "verify_epochs is 0: give 1 or more"),
        ({"algorithm": "nsga2", "candidates": 9}, "population 64 is more than candidates 9"),
        ({"algorithm": "evolution", "tournament": 65}, "tournament 65 is more than population 64"),
        ({"mutation": 0.0}, "mutation is 0.0: give a probability"),
        ({"random_students": -1}, "random_students is -1: give 0 or more"),
        ({"max_flops": "0%"}, "max_flops is '0%': give a share"),
        ({"max_latency": "3"}, "max_latency is '3': give a share"),
    ],
)
def test_senseless_searches_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        SearchConfig(**changes)


@pytest.mark.parametrize("name", ["students_per_task", "replicates", "students_per_batch"])
def test_a_database_needs_students(name):
    with pytest.raises(UserError, match=f"{name} must be at least 1"):
        DatabaseConfig(**{name: 0})


@pytest.fixture(params=CONFIGS, ids=[path.stem for path in CONFIGS])
def configured(request):
    """The experiment of each file under configs/."""
    spec = importlib.util.spec_from_file_location(request.param.stem, request.param)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return from_config(module.get_config())


def test_every_configuration_has_tasks_of_all_roles(configured):
    # of a task that one only wants a student for, none need be measured
    roles = {spec.role for spec in configured.tasks} - {"pretrain"}
    if configured.meta.held_out and "meta_train" in roles:
        roles |= {"meta_valid"}  # held out in turn, all source tasks select
    # or it only trains teachers
    assert roles in ({"meta_train", "meta_valid", "meta_test"}, {"meta_test"})
    names = [spec.name.lower() for spec in configured.tasks]
    assert len(set(names)) == len(names)


def test_every_ablation_changes_something():
    path = next(path for path in CONFIGS if path.stem == "ablations")
    names = runpy.run_path(str(path))
    build = names["get_config"]
    changed = [f"STA_{name}" for name in names["CHANGES"]]
    variants = [build(name) for name in ("STA", "S", "STAD", *changed, *names["WHOLE"])]
    seen = {(from_config(v).predictor, from_config(v).meta) for v in variants}
    assert len(seen) == len(variants)


def _shared_classes(first, second):
    """Classes that two tasks have in common; no class list means all classes."""
    if first.source != second.source:
        return set()
    if not first.classes or not second.classes:
        return set(first.classes or second.classes or ["all"])
    return set(first.classes) & set(second.classes)


def test_what_evaluates_shares_no_class_with_what_trains(configured):
    training = configured.with_role("meta_train")
    selecting = configured.with_role("meta_valid")
    unseen = configured.with_role("meta_test")
    for spec in unseen:
        for other in (*training, *selecting):
            assert not _shared_classes(spec, other), (spec.name, other.name)
    for index, spec in enumerate(unseen):
        for other in unseen[index + 1 :]:
            assert not _shared_classes(spec, other), (spec.name, other.name)
    for index, spec in enumerate(selecting):
        for other in (*training, *selecting[index + 1 :]):
            assert not _shared_classes(spec, other), (spec.name, other.name)
    for spec in configured.tasks:
        assert len(set(spec.classes)) == len(spec.classes)


def _kind(spec):
    """The domain or the family of drawings of a task; None for photographs."""
    return spec.domain or (spec.source if spec.source.startswith("generated:") else None)


def test_domains_and_families_are_held_out_whole():
    path = next(path for path in CONFIGS if path.stem == "unseen_32")
    experiment = from_config(runpy.run_path(str(path))["get_config"]())
    judges = experiment.with_role("meta_train", "meta_valid")
    folds = make_folds(experiment.meta.ensemble, len(judges), experiment.meta.held_out)
    for held_out in folds.held_out:
        inside = {_kind(judges[place]) for place in np.flatnonzero(held_out)} - {None}
        outside = {_kind(judges[place]) for place in np.flatnonzero(~held_out)}
        assert not inside & outside


def test_the_template_is_about_a_task_of_ones_own():
    path = next(path for path in CONFIGS if path.stem == "template")
    experiment = from_config(runpy.run_path(str(path))["get_config"]())
    (own,) = experiment.with_role("meta_test")
    assert (own.name, own.source, own.teacher) == ("birds", "birds.zip", "teacher.pth.tar")
    assert own not in experiment.student_tasks
    assert len(experiment.with_role("meta_train", "meta_valid")) == 10
    # predictions are about the final networks while these are equal
    assert experiment.kd == experiment.final
    assert experiment.search.limited == ("flops",)


def test_the_configurations_are_found():
    found = {path.stem for path in CONFIGS}
    assert {"smoke", "quickstart", "template", "tiny_imagenet_32"} <= found
