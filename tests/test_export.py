"""Exported students: every format gives the kept network's logits, or one clear line."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dass_jax
from dass_jax import checkpoints, resnet
from dass_jax.compilations import compilations
from dass_jax.console import console
from dass_jax.data.augmentation import normalize
from dass_jax.deployment import exporting, formats
from dass_jax.deployment.exporting import DEFAULT_FORMATS, export_student
from dass_jax.deployment.kept import read_kept
from dass_jax.errors import UserError
from dass_jax.experiment import from_config
from dass_jax.teacher import TeacherResult, save_teacher
from dass_jax.workdir import Workdir, read_json, write_json
from dass_jax.workflow import distill, prepare
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.distill import best_on_validation
from dass_jax.workflow.export import run_export
from dass_jax.workflow.recipes import teacher_recipe

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
SHAPE = {"depths": [1, 2, 1, 2], "widths": [[3], [2, 4], [8], [5, 7]]}
TASK = "digits"
ONNX = importlib.util.find_spec("jax2onnx") is not None
FORMATS = (*DEFAULT_FORMATS, *(["onnx"] if ONNX else []))
EVERY_FORMAT = [
    pytest.param(name, marks=pytest.mark.skipif(name not in FORMATS, reason="needs '.[onnx]'"))
    for name in formats.FORMATS
]
# validation and test accuracy of each seed: the best on validation is not the best on test
ACCURACIES = [(0.6, 0.9), (0.8, 0.5), (0.7, 0.7)]


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("smoke", SMOKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.search.replicates = len(ACCURACIES)
    return from_config(config)


def random_variables(experiment, seed):
    """A teacher-shaped network in which no scale, mean or variance is that of the start."""
    generator = np.random.default_rng(seed)

    def draw(leaf):
        if len(leaf.shape) > 1:
            return generator.normal(0, 0.3, leaf.shape).astype(np.float32)
        return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, resnet.variable_shapes(experiment.space, 3))


def keep_student(experiment, workdir, replicate, **changes):
    """A distilled network as distillation keeps it, but for the training."""
    student = Student(experiment.space.from_json(SHAPE), 0)
    spec, (valid, test) = experiment.task(TASK), ACCURACIES[replicate]
    metadata = {
        "architecture": SHAPE,
        "student_id": 0,
        "final_accuracy": valid,
        "test_accuracy": test,
        "diverged": False,
        "seconds": 1.0,
        "recipe": prepare.distilled_recipe(experiment, workdir, spec, experiment.final),
    } | changes
    masked = random_variables(experiment, replicate)
    dense = resnet.cut(experiment.space, masked, student.architecture)
    path = distill._path(experiment, experiment.final, workdir.student(TASK), student, replicate)
    checkpoints.save(path, 0, dense, metadata)
    return path


@pytest.fixture(scope="module")
def kept(experiment, tmp_path_factory):
    """A work directory with a teacher and a student of three seeds."""
    workdir = Workdir(tmp_path_factory.mktemp("kept") / "work")
    spec = experiment.task(TASK)
    images = prepare.load_images(experiment, spec)
    teacher = TeacherResult(random_variables(experiment, 9), 0.95, 2, [(2, 0.95)], 1.0)
    metadata = {"recipe": teacher_recipe(experiment, spec), "test_accuracy": 0.94}
    metadata |= prepare.origin_of(images, teacher)
    save_teacher(workdir.teacher(TASK) / "checkpoint", teacher, metadata)
    for replicate in range(len(ACCURACIES)):
        keep_student(experiment, workdir, replicate)
    return workdir


def seed_folder(workdir, replicate):
    (student,) = workdir.student(TASK).iterdir()
    return student / f"replicate{replicate}"


@pytest.fixture(scope="module")
def student(kept):
    """The description and the weights of one kept network."""
    return read_kept(seed_folder(kept, 1))


@pytest.fixture(scope="module")
def exported(student, tmp_path_factory):
    """One student in all formats, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("exported") / "student"
    config, variables = student
    config = dataclasses.replace(config, class_names=("nil", "one", "two"))
    files = export_student(folder, config, variables, FORMATS)
    assert [one.format for one in files] == [name for name in formats.FORMATS if name in FORMATS]
    return folder


@pytest.fixture
def copied(exported, tmp_path):
    return pathlib.Path(shutil.copytree(exported, tmp_path / "student"))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(experiment, images):
    """What the masked teacher returns, of which the student was cut out."""
    run = jax.jit(functools.partial(resnet.apply, experiment.space, train=False))
    masked = jax.tree.map(jnp.asarray, random_variables(experiment, 1))
    logits, _ = run(masked, experiment.space.from_json(SHAPE), normalize(jnp.asarray(images)))
    assert np.abs(logits).max() > 0.1
    return np.asarray(logits)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_all_formats_run_in_a_fresh_process(exported, images, expected, tmp_path):
    script = pathlib.Path(__file__).with_name("exported_student.py")
    np.save(tmp_path / "images.npy", images)
    paths = [exported, tmp_path / "images.npy", tmp_path / "logits.npz"]
    done = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "logits.npz")
    assert set(found) == {*FORMATS, *(f"load_student/{name}" for name in FORMATS)}
    for name in found:
        assert found[name].dtype == np.float32
        close(found[name], expected)


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_any_number_of_images(exported, images, expected, name):
    student = dass_jax.load_student(exported, name)
    for number in (1, 3):
        close(student(images[:number]), expected[:number])
    assert (student.variables is None) == (name in ("stablehlo", "onnx"))


def test_the_package_is_imported_without_jax():
    script = "import sys, dass_jax; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'load_teacher'"):
        dass_jax.load_teacher  # noqa: B018


def test_one_compilation_for_each_number_of_images(exported, images, expected):
    first, again = (dass_jax.load_student(exported) for _ in range(2))
    close(first(images[:2]), expected[:2])
    before = compilations()
    for start in range(3):
        close(again(images[start : start + 2]), expected[start : start + 2])
    assert compilations().number == before.number


def test_a_kept_network_is_loaded_as_it_is(kept, images, expected):
    student = dass_jax.load_student(seed_folder(kept, 1))
    close(student(images), expected)
    assert (student.config.task, student.config.valid_accuracy) == (TASK, 0.8)
    with pytest.raises(UserError, match="holds no student"):
        dass_jax.load_student(seed_folder(kept, 1), "stablehlo")


def test_predictions(exported, images, expected):
    student = dass_jax.load_student(str(exported))
    classes = expected.argmax(1)
    assert student.predict(images).tolist() == classes.tolist()
    assert student.predict_names(images) == [("nil", "one", "two")[label] for label in classes]
    nameless = dataclasses.replace(
        student, config=dataclasses.replace(student.config, class_names=None)
    )
    with pytest.raises(UserError, match="does not know the names"):
        nameless.predict_names(images)


def test_the_description_is_that_of_the_network(exported, experiment, student):
    config = read_json(exported / "config.json")
    _, variables = student
    assert config["block_widths"] == SHAPE["widths"]
    assert config["strides"] == list(experiment.space.strides)
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert config["num_params"] == sum(sizes)
    image = config["image"]
    pixels = np.arange(256, dtype=np.uint8)[None, :, None, None]
    scaled = (pixels / 255 - image["mean"]) / image["std"]
    found = normalize(jnp.tile(pixels, 3))
    np.testing.assert_allclose(found, np.tile(scaled, 3), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.astype(np.float32),
        lambda images: images[:, :4, :4],
        lambda images: images[0],
        lambda images: images[:0],
        lambda images: images[..., :1],
        lambda images: jnp.asarray(images).astype(jnp.int32),
    ],
    ids=["float", "size", "one image", "none", "gray", "int32"],
)
def test_wrong_images_are_named(exported, images, change):
    student = dass_jax.load_student(exported)
    with pytest.raises(UserError, match=r"give uint8 of shape \[B, 8, 8, 3\]"):
        student(change(images))


def test_formats_of_the_same_student_add_up(student, tmp_path):
    folder = tmp_path / "student"
    export_student(folder, *student, ["safetensors"])
    assert formats.present(folder) == ["safetensors"]
    flip(folder / "student.safetensors")
    export_student(folder, *student, ["checkpoint"])
    assert formats.present(folder) == ["safetensors", "checkpoint"]
    # what was damaged before still is, until it is written again
    with pytest.raises(UserError, match=r"is not what config\.json says"):
        dass_jax.load_student(folder)
    export_student(folder, *student, ["safetensors"])
    assert formats.present(folder) == ["safetensors", "checkpoint"]
    dass_jax.load_student(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@pytest.mark.parametrize("content", ["{", '{"format_version": 0, "sha256": {}}'])
def test_an_export_that_cannot_be_read_is_replaced_if_asked(copied, student, content):
    (copied / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"cannot be read \(.*\): give --overwrite"):
        export_student(copied, *student, ["safetensors"])
    (copied / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"also holds notes\.txt: move it away"):
        export_student(copied, *student, ["safetensors"], overwrite=True)
    (copied / "notes.txt").unlink()
    export_student(copied, *student, ["safetensors"], overwrite=True)
    assert {path.name for path in copied.iterdir()} == {"config.json", "student.safetensors"}


def test_another_student_is_replaced_only_if_asked(copied, kept):
    other = read_kept(seed_folder(kept, 0))
    before = contents(copied)
    with pytest.raises(UserError, match="holds another student, of digits: give --overwrite"):
        export_student(copied, *other, ["safetensors"])
    assert contents(copied) == before
    export_student(copied, *other, ["safetensors"], overwrite=True)
    assert formats.present(copied) == ["safetensors"]
    assert read_json(copied / "config.json")["weights_digest"] == other[0].weights_digest


@pytest.mark.parametrize("name", ["notes.txt", "photos"])
def test_what_is_no_export_is_never_removed(copied, student, tmp_path, name):
    own = tmp_path / "own"
    for folder in (copied, own):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    before = contents(tmp_path)
    for folder, message in ((copied, f"also holds {name}"), (own, "is no exported student")):
        with pytest.raises(UserError, match=message):
            export_student(folder, *student, ["safetensors"], overwrite=True)
    with pytest.raises(UserError, match="is no exported student"):
        export_student(own / name, *student, ["safetensors"], overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("failure", ["wrong", "stopped", "renaming"])
def test_a_failed_export_leaves_what_was_there(copied, student, monkeypatch, failure):
    """Failures: a format with other logits, Ctrl-C while writing, and between two renames."""
    safetensors = formats.FORMATS["safetensors"]

    def write(path, config, variables):
        if failure == "stopped":
            raise KeyboardInterrupt
        safetensors.write(path, config, variables)

    def read(path, config):
        network = safetensors.read(path, config)
        return network._replace(run=lambda images: network.run(images) * 1.001)

    def rename(path, target, rename=pathlib.Path.rename):
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    broken = safetensors._replace(
        write=write, read=read if failure == "wrong" else safetensors.read
    )
    monkeypatch.setitem(exporting.FORMATS, "safetensors", broken)
    if failure == "renaming":
        monkeypatch.setattr(pathlib.Path, "rename", rename)
    before = contents(copied)
    with pytest.raises(UserError if failure == "wrong" else KeyboardInterrupt) as caught:
        export_student(copied, *student, ["safetensors"])
    if failure == "wrong":
        assert "safetensors is off by" in str(caught.value)
    assert contents(copied) == before
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_a_damaged_or_missing_file_is_named(copied, name):
    path = copied / formats.FORMATS[name].file
    # that damaged checkpoints are named is checkpoints' own business
    if path.is_file():
        flip(path)
        with pytest.raises(UserError, match=r"is not what config\.json says") as caught:
            dass_jax.load_student(copied, name)
        assert str(path) in str(caught.value)
    path.rename(copied / "gone")
    with pytest.raises(UserError, match=f"holds no {name}: export the student again"):
        dass_jax.load_student(copied, name)


def test_weights_of_another_student_are_noticed(copied, kept, tmp_path):
    other = tmp_path / "other"
    export_student(other, *read_kept(seed_folder(kept, 0)), ["checkpoint"])
    shutil.rmtree(copied / "checkpoint")
    shutil.copytree(other / "checkpoint", copied / "checkpoint")
    with pytest.raises(UserError, match=r"is not what config\.json says"):
        dass_jax.load_student(copied, "checkpoint")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "is of format version 2, but this dass_jax reads 1"),
        ({"sha256": None}, "describes no exported student"),
        ({"num_classes": "3"}, r"config\.json\.num_classes is '3': give a int"),
        ({"colour": 1}, "has no field 'colour'"),
        ({"class_names": ["a"]}, "1 class_names for 3 classes"),
        ({"block_widths": [[3], [], [8], [5]]}, "at least one block for each stage"),
        ({"block_widths": [[3], [2, 4], [8], [5, 6]]}, "does not fit"),
        ({"strides": [1, 2]}, "strides must give 1 or 2 for each of the 4 stages"),
        ({"image": {"size": 9}}, "image size 9 is not a multiple of 8"),
        ({"image": {"size": 8, "mean": 0.4}}, "students take 0.5 and 0.5"),
    ],
)
def test_a_wrong_description_is_named(copied, change, message):
    write_json(copied / "config.json", read_json(copied / "config.json") | change)
    for name in ("safetensors", "checkpoint"):
        with pytest.raises(UserError, match=message) as caught:
            dass_jax.load_student(copied, name)
        assert str(copied) in str(caught.value)


def test_a_foreign_folder_is_named(kept, tmp_path):
    for folder in (tmp_path, tmp_path / "missing", kept.root):
        with pytest.raises(UserError, match="holds no student: name a folder that bin/export"):
            dass_jax.load_student(folder)
    with pytest.raises(UserError, match="is no distilled student"):
        dass_jax.load_student(kept.teacher(TASK) / "checkpoint")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no valid JSON"):
        dass_jax.load_student(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(UserError, match="describes no exported student"):
        dass_jax.load_student(tmp_path)


@pytest.mark.parametrize("requested", [["tflite"], []])
def test_an_unknown_format_is_named(exported, student, tmp_path, requested):
    with pytest.raises(UserError, match="choose from safetensors, checkpoint, stablehlo, onnx"):
        export_student(tmp_path / "student", *student, requested)
    with pytest.raises(UserError, match="there is no format 'tflite'"):
        dass_jax.load_student(exported, "tflite")
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages_is_one_line(student, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match=r"jax2onnx: pip install -e '\.\[onnx\]'"):
        export_student(tmp_path / "student", *student, ["onnx"])
    assert not list(tmp_path.iterdir())


def run(experiment, workdir, **changes):
    options = {"replicate": None, "formats": ["safetensors"], "overwrite": False}
    options |= {"output": workdir.export(TASK)} | changes
    student = Student(experiment.space.from_json(SHAPE), 0)
    with console.capture() as capture:
        run_export(experiment, workdir, experiment.task(TASK), student, **options)
    return dass_jax.load_student(options["output"]), " ".join(capture.get().split())


def test_the_best_seed_on_validation_is_exported(experiment, kept, tmp_path):
    chosen, printed = run(experiment, kept, output=tmp_path / "best")
    config = chosen.config
    assert (config.replicate, config.valid_accuracy, config.test_accuracy) == (1, 0.8, 0.5)
    assert "seed 1 (the best on validation): 80.0 % on validation, 50.0 % on test" in printed
    assert config.class_names == ("0", "1", "2")
    teacher = config.teacher
    assert (teacher.valid_accuracy, teacher.test_accuracy) == (0.95, 0.94)
    assert not teacher.accuracy_given
    weights = random_variables(experiment, 9)["params"]
    assert teacher.num_params == sum(leaf.size for leaf in jax.tree.leaves(weights))
    chosen, _ = run(experiment, kept, output=tmp_path / "first", replicate=0)
    assert (chosen.config.replicate, chosen.config.valid_accuracy) == (0, 0.6)


@pytest.fixture
def changeable(kept, tmp_path):
    shutil.copytree(kept.root, tmp_path / "work")
    return Workdir(tmp_path / "work")


def test_a_diverged_seed_is_not_exported(experiment, changeable):
    for replicate in (1, 2, 0):
        shutil.rmtree(seed_folder(changeable, replicate))
        keep_student(experiment, changeable, replicate, diverged=True)
        if replicate == 1:
            chosen, _ = run(experiment, changeable)
            assert chosen.config.replicate == 2
    with pytest.raises(UserError, match="diverged: distil it at a lower learning_rate"):
        run(experiment, changeable)


def test_the_summary_of_a_student_counts_diverged_seeds(experiment, changeable):
    shutil.rmtree(seed_folder(changeable, 1))
    keep_student(experiment, changeable, 1, diverged=True)
    student = Student(experiment.space.from_json(SHAPE), 0)
    with console.capture() as capture:
        distill.run_distillation(experiment, changeable, experiment.task(TASK), student)
    assert "80.0 % ± 14.1, 1 diverged" in capture.get()
    (folder,) = changeable.student(TASK).iterdir()
    assert read_json(folder / "summary.json")["diverged"] == 1


def test_a_student_that_is_not_distilled_is_named(experiment, changeable):
    shutil.rmtree(seed_folder(changeable, 2))
    for replicate in (None, 2):
        with pytest.raises(UserError, match=r"not distilled with seed 2 yet: run bin/distill\.py"):
            run(experiment, changeable, replicate=replicate)
    assert not changeable.export(TASK).exists()
    run(experiment, changeable, replicate=1)


@pytest.mark.parametrize(("replicate", "replicates"), [(3, 4), (7, 8), (-1, 4)])
def test_a_seed_that_is_never_distilled_is_named(experiment, kept, replicate, replicates):
    fitting = rf"from 0 to 2, or .* with --config\.search\.replicates={replicates}$"
    with pytest.raises(UserError, match=f"there is no seed {replicate}: give a number {fitting}"):
        run(experiment, kept, replicate=replicate)


def test_a_student_of_another_schedule_is_another_student(experiment, kept):
    longer = dataclasses.replace(experiment.final.sgd, epochs=3)
    changed = dataclasses.replace(
        experiment, final=dataclasses.replace(experiment.final, sgd=longer)
    )
    with pytest.raises(UserError, match=r"not distilled with seed 0 yet: run bin/distill\.py"):
        run(changed, kept)
    other = dataclasses.replace(experiment, seed=1)
    with pytest.raises(UserError, match="seed was 0 and is now 1"):
        run(other, kept)


def test_names_are_left_out_where_the_images_are_gone(experiment, kept, tmp_path, monkeypatch):
    def missing(spec, image_size):
        raise UserError("no dataset 'digits': no such file")

    monkeypatch.setattr("dass_jax.workflow.export.load_task", missing)
    chosen, printed = run(experiment, kept, output=tmp_path / "nameless")
    assert chosen.config.class_names is None
    assert "the names of the classes are left out: no dataset 'digits': no such file" in printed


@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.5, 0.7, 0.7], 1), ([0.1], 0), ([0.2, 0.1], 0)]
)
def test_the_first_of_equals_is_the_best(accuracies, best):
    results = [
        {"final_accuracy": accuracy, "test_accuracy": 1 - accuracy, "diverged": False}
        for accuracy in accuracies
    ]
    assert best_on_validation(results) == best
