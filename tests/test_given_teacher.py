"""Teachers that were trained elsewhere: read, checked, measured, kept."""

import dataclasses
import gc
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from dass_jax import checkpoints, interop, resnet, weights
from dass_jax.budget import CostModel
from dass_jax.data.augmentation import normalize
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.search_space import ResNetSpace
from dass_jax.workdir import Workdir
from dass_jax.workflow import given_teacher, prepare
from dass_jax.workflow.search_result import describe_teacher
from dass_jax.workflow.train_teachers import train_teachers

SPACE = ResNetSpace((3, 4, 4, 6), 2)
CLASSES = 10


@pytest.fixture(scope="module")
def variables():
    """A teacher that answers differently for different images."""
    made = jax.jit(lambda key: resnet.init(SPACE, key, CLASSES))(jax.random.key(0))
    return jax.device_get(made)


@pytest.fixture(scope="module")
def official(variables):
    """The same weights with the official names and axes."""
    flat = traverse_util.flatten_dict(variables)
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    named = {
        name: np.ascontiguousarray(flat[path].transpose(axes[flat[path].ndim]))
        for name, path in interop._resnet_paths(resnet.block_widths(variables)).items()
    }
    np.testing.assert_array_equal(
        interop.import_resnet(named, SPACE)["params"]["dense"]["kernel"],
        variables["params"]["dense"]["kernel"],
    )
    return named


def save_npz(path, official, variables):
    np.savez(path, **official)


def save_safetensors(path, official, variables):
    file = pytest.importorskip("safetensors.numpy")
    file.save_file(official, path)


def save_pytorch(path, official, variables):
    torch = pytest.importorskip("torch")
    tensors = {f"module.{name}": torch.from_numpy(array.copy()) for name, array in official.items()}
    counters = {"module.bn1.num_batches_tracked": torch.tensor(7)}
    torch.save({"state_dict": tensors | counters, "epoch": 180, "best_acc1": 61.5}, path)


def save_orbax(path, official, variables):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), variables)


def save_steps(path, official, variables):
    """As training loops keep their checkpoints, the last of several."""
    with ocp.CheckpointManager(path.absolute()) as manager:
        for step, scale in ((900, 2), (1000, 1)):
            scaled = jax.tree.map(lambda leaf, scale=scale: scale * leaf, variables)
            manager.save(step, args=ocp.args.StandardSave(scaled | {"step": np.asarray(step)}))
            manager.wait_until_finished()


KINDS = {
    "teacher.npz": save_npz,
    "teacher.safetensors": save_safetensors,
    "teacher.pth.tar": save_pytorch,
    "teacher_orbax": save_orbax,
    "teacher_steps": save_steps,
}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory, official, variables):
    path = tmp_path_factory.mktemp("given") / request.param
    KINDS[request.param](path, official, variables)
    return path


def test_every_kind_of_file_gives_the_same_network(saved, variables):
    found = weights.read_teacher(saved, SPACE)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_a_teacher_of_another_size_is_one_clear_line(saved):
    for wrong in (ResNetSpace((3, 4, 4, 8), 2), ResNetSpace((3, 4, 4, 6), 3)):
        with pytest.raises(UserError, match=r"does not fit") as caught:
            weights.read_teacher(saved, wrong)
        assert "\n" not in str(caught.value)


def test_weights_of_another_precision_become_float32(tmp_path, variables):
    lower = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), variables)
    save_orbax(tmp_path / "lower", None, lower)
    found = weights.read_teacher(tmp_path / "lower", SPACE)
    expected = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), lower)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_parameters_that_need_gradients_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"fc.bias": torch.nn.Parameter(torch.ones(3))}, tmp_path / "teacher.pth")
    found = weights.read_state_dict(tmp_path / "teacher.pth")
    np.testing.assert_array_equal(found["fc.bias"], np.ones(3))


def test_without_pytorch_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "teacher.pth"
    path.touch()
    message = r"teacher.pth holds PyTorch weights: pip install -e '\.\[torch\]'"
    with pytest.raises(UserError, match=message):
        weights.read_state_dict(path)


def test_a_damaged_checkpoint_is_not_to_be_removed(tmp_path, variables, caplog, capfd):
    save_steps(tmp_path / "steps", None, variables)
    for path in (tmp_path / "steps" / "1000" / "default").rglob("*"):
        if path.is_file() and "METADATA" not in path.name:
            path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"steps/1000/default cannot be read: ") as caught:
        weights.read_teacher(tmp_path / "steps", SPACE)
    assert "remove" not in str(caught.value)
    assert "\n" not in str(caught.value)
    # arrays that were still being read when the first failed complain when they are collected
    gc.collect()
    assert not caplog.records
    assert capfd.readouterr().err == ""


class Harmful:
    """What unpickling would run."""

    def __reduce__(self):
        return (pytest.fail, ("code from the file was run",))


def test_code_in_a_file_is_never_run(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "teacher.pth"
    torch.save({"state_dict": Harmful()}, path)
    with pytest.raises(UserError, match="cannot be read as weights"):
        weights.read_teacher(path, SPACE)


@pytest.mark.parametrize("name", ["teacher.npz", "teacher.safetensors", "teacher.pth"])
def test_a_damaged_file_is_one_clear_line(tmp_path, name):
    if name.endswith("pth"):
        pytest.importorskip("torch")
    path = tmp_path / name
    path.write_bytes(b"nonsense" * 20)
    with pytest.raises(UserError, match=f"{name} cannot be read as weights") as caught:
        weights.read_teacher(path, SPACE)
    assert "\n" not in str(caught.value)


def test_what_is_no_teacher_is_named(tmp_path, official):
    with pytest.raises(UserError, match="does not exist"):
        weights.read_teacher(tmp_path / "none.npz", SPACE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no orbax checkpoint"):
        weights.read_teacher(tmp_path / "empty", SPACE)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UserError, match=r"no weights file: give one of .npz"):
        weights.read_teacher(tmp_path / "notes.txt", SPACE)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "other", {"weights": jnp.ones(3)})
    with pytest.raises(UserError, match="holds no teacher: it needs params and batch_stats"):
        weights.read_teacher(tmp_path / "other", SPACE)
    np.savez(tmp_path / "part.npz", **{k: v for k, v in official.items() if k != "conv1.weight"})
    with pytest.raises(UserError, match=r"does not fit: ResNet weights: missing conv1.weight"):
        weights.read_teacher(tmp_path / "part.npz", SPACE)


@pytest.fixture
def given(tmp_path, official):
    """A task whose teacher lies in a file, its experiment and work directory."""
    path = tmp_path / "teacher.npz"
    save_npz(path, official, None)
    spec = TaskSpec("digits", "meta_test", "digits", test_fraction=0.5, teacher=str(path))
    experiment = Experiment(image_size=8, space=SPACE, tasks=(spec,))
    return experiment, Workdir(tmp_path / "work"), spec, path


def test_an_adopted_teacher_is_measured_and_kept(given, variables):
    experiment, workdir, spec, path = given
    images = prepare.load_images(experiment, spec)
    result = prepare.ensure_teacher(experiment, workdir, spec, images)
    on_device = jax.tree.map(jnp.asarray, variables)
    logits = jax.jit(lambda batch: resnet.apply_dense(SPACE, on_device, batch, train=False)[0])(
        normalize(images.valid.images)
    )
    expected = np.mean(np.argmax(logits, 1) == images.valid.labels)
    assert result.accuracy == pytest.approx(float(expected))
    jax.tree.map(np.testing.assert_array_equal, result.variables, variables)
    assert 0 <= prepare.teacher_test_accuracy(workdir, spec) <= 1
    # its own copy serves, also when the file has gone
    path.unlink()
    again = prepare.ensure_teacher(experiment, workdir, spec, images)
    assert again.accuracy == result.accuracy
    jax.tree.map(np.testing.assert_array_equal, again.variables, variables)


def test_a_given_accuracy_is_taken_and_a_doubt_is_told(given, capsys):
    experiment, workdir, spec, _ = given
    spec = dataclasses.replace(spec, teacher_accuracy=0.75)
    experiment = dataclasses.replace(experiment, tasks=(spec,))
    images = prepare.load_images(experiment, spec)
    assert prepare.ensure_teacher(experiment, workdir, spec, images).accuracy == 0.75
    full = CostModel(SPACE, 8, CLASSES)
    assert describe_teacher(experiment, workdir, spec, full)["accuracy_given"]
    # random weights guess
    assert "hardly more than chance: its classes may be" in " ".join(
        capsys.readouterr().out.split()
    )
    train_teachers(experiment, workdir, (spec,))
    assert "75.0 % as given" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measured", "accuracy", "doubt"),
    [
        (0.14, None, "hardly more than chance"),
        (0.2, None, None),
        (0.95, 0.7, "95.0 % on the validation images, and 70.0 % was given"),
        (0.7, 0.75, None),
    ],
)
def test_what_is_suspicious_in_an_accuracy(measured, accuracy, doubt):
    found = given_teacher.doubt_of(measured, accuracy, num_classes=10, num_images=200)
    assert found is None if doubt is None else doubt in found


def test_another_file_of_the_same_name_is_noticed(given, official):
    experiment, workdir, spec, path = given
    images = prepare.load_images(experiment, spec)
    prepare.ensure_teacher(experiment, workdir, spec, images)
    np.savez(path, **(official | {"fc.bias": official["fc.bias"] + 1}))
    for use in (
        lambda: prepare.ensure_teacher(experiment, workdir, spec, images),
        lambda: prepare.required_origin(experiment, workdir, spec),
    ):
        with pytest.raises(UserError, match="holds other weights than when task digits adopted it"):
            use()


def test_the_origin_of_students_is_that_of_images_and_weights(given):
    experiment, workdir, spec, _ = given
    with pytest.raises(UserError, match="task digits has no teacher"):
        prepare.required_origin(experiment, workdir, spec)
    images = prepare.load_images(experiment, spec)
    teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
    origin = prepare.required_origin(experiment, workdir, spec)
    assert origin == prepare.origin_of(images, teacher)
    assert len(origin) == 2


def test_a_teacher_of_other_classes_is_one_clear_line(given):
    experiment, workdir, spec, _ = given
    spec = dataclasses.replace(spec, classes=(0, 1, 2))
    images = prepare.load_images(experiment, spec)
    with pytest.raises(UserError, match=r"knows 10 classes, but the images .* have 3"):
        prepare.ensure_teacher(experiment, workdir, spec, images)
    assert not checkpoints.exists(workdir.teacher(spec.name) / "checkpoint")


def test_the_teacher_of_another_work_directory_serves(given, variables):
    experiment, workdir, spec, _ = given
    images = prepare.load_images(experiment, spec)
    prepare.ensure_teacher(experiment, workdir, spec, images)
    found = weights.read_teacher(workdir.teacher(spec.name), SPACE)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher": "t.npz", "teacher_init": "other"}, "give teacher or teacher_init, not both"),
        ({"teacher_accuracy": 0.5}, "teacher_accuracy is for a given teacher alone"),
        ({"teacher": "t.npz", "teacher_accuracy": 61.5}, "61.5: give a fraction"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        TaskSpec("digits", "meta_test", "digits", **fields)
