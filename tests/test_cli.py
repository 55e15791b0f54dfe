"""The commands as a user starts them: each in a process of its own."""

import os
import pathlib
import resource
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXPERIMENT = ("--config", "--workdir")
FLAGS = {
    "build_database": EXPERIMENT,
    "distill": (*EXPERIMENT, "--task", "--architecture", "--search", "--candidate"),
    "evaluate": (*EXPERIMENT, "--database", "--predictor", "--task", "--output"),
    "export": (
        *EXPERIMENT,
        "--task",
        "--architecture",
        "--search",
        "--candidate",
        "--replicate",
        "--output",
        "--formats",
        "--overwrite",
    ),
    "inspect_database": ("--workdir", "--task", "--output"),
    "meta_train": (*EXPERIMENT, "--predictor"),
    "prepare_data": ("--image_size", "--file", "--output"),
    "search": (*EXPERIMENT, "--task", "--name", "--verify"),
    "train_teacher": (*EXPERIMENT, "--task"),
}
SMOKE = "--config=configs/smoke.py"
# flags are checked before JAX is needed, and a configuration without it is read in no time
LIGHT = """
from ml_collections import ConfigDict
def get_config():
    return ConfigDict({"seed": 0, "kd": {"sgd": {"epochs": 1}}})
"""


def command(name, *arguments, prefix=()):
    # what tests are run under shall not decide what a user sees
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DASS_DATA_DIR", "PYTHONWARNINGS")
    }
    return subprocess.run(
        [sys.executable, *prefix, f"bin/{name}.py", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_command_is_tested():
    assert {path.stem for path in (ROOT / "bin").glob("*.py")} == set(FLAGS)


def seconds_of_children():
    """Processor time, which does not depend on what else the machine does."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("name", FLAGS)
def test_help_answers_at_once(name):
    seconds = []
    for _ in range(3):
        begin = seconds_of_children()
        answer = command(name, "--help")
        seconds.append(seconds_of_children() - begin)
    assert (answer.returncode, answer.stderr) == (0, "")
    for flag in ("--debug", *FLAGS[name]):
        assert f"  {flag} " in answer.stdout
    assert f"usage: {name}.py " in answer.stdout
    # the module's own description comes first
    source = (ROOT / "bin" / f"{name}.py").read_text()
    assert f'"""{answer.stdout.splitlines()[0]}' in source
    assert min(seconds) < 0.5


@pytest.mark.parametrize("name", FLAGS)
def test_help_does_without_jax(name):
    answer = command(name, "--help", prefix=("-X", "importtime"))
    imported = {line.split("|")[-1].strip().split(".")[0] for line in answer.stderr.splitlines()}
    assert "absl" in imported
    assert not imported & {"jax", "jaxlib", "flax", "orbax", "numpy", "scipy", "matplotlib"}


def assert_one_line(name, arguments, message, workdir):
    where = [f"--workdir={workdir}"] if "--workdir" in FLAGS[name] else []
    answer = command(name, *arguments, *where)
    assert answer.stderr.startswith(f"{name}.py: error: "), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert message in answer.stderr
    assert (answer.returncode, answer.stdout) == (2, "")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("meta_train", ["--confg.seed=1"], "Unknown command line flag 'confg.seed'"),
        ("search", ["--tsk=digits"], "Unknown command line flag 'tsk'"),
        ("meta_train", ["--config.nonsense=1"], "--config: there is no field 'nonsense'"),
        ("distill", ["--config.kd.sdg.epochs=1"], "--config: there is no field 'sdg'"),
        ("search", ["--config.seeed=1"], "no field 'seeed': did you mean 'seed'?"),
        ("build_database", ["--config.kd.sgd.epochs=abc"], "flag --config.kd.sgd.epochs=abc: "),
        ("build_database", ["--config.kd=3"], "flag --config.kd=3: "),
        ("train_teacher", ["digits"], "unexpected argument 'digits': see train_teacher.py --help"),
    ],
)
def test_a_wrong_flag_is_one_line(tmp_path, name, arguments, message):
    path = tmp_path / "light.py"
    path.write_text(LIGHT)
    assert_one_line(name, [f"--config={path}", *arguments], message, tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepair", "dtd"], "cannot prepair dtd: see prepare_data.py --help"),
        (["prepare"], "cannot prepare: see prepare_data.py --help"),
        (["prepare", "--image_size=big", "dtd"], "flag --image_size=big: "),
        (["show", "cub200_2012"], "did you mean 'cub200_2011'?"),
    ],
)
def test_a_mistake_with_datasets_is_one_line(tmp_path, arguments, message):
    assert_one_line("prepare_data", arguments, message, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing: see build_database.py --help"),
        (["--config=missing.py"], "--config: [Errno 2] No such file or directory: 'missing.py'"),
        (["--config=configs"], "--config: [Errno 21] Is a directory: 'configs'"),
        (["--config="], "--config: Path to config file is an empty string."),
        (["--config"], "Missing value for flag --config"),
    ],
)
def test_a_missing_configuration_is_one_line(tmp_path, arguments, message):
    # the last flag would take the next one as its value
    answer = command("build_database", f"--workdir={tmp_path / 'work'}", *arguments)
    assert answer.stderr == f"build_database.py: error: {message}\n"
    assert (answer.returncode, answer.stdout) == (2, "")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "build_database",
            ["--config.predictor.inputs=SX"],
            "config.predictor: predictor inputs 'SX': give one or more of the letters S, T, A, "
            "I, D, K, C, each once",
        ),
        (
            "train_teacher",
            ["--task=birds"],
            "no task 'birds' in this experiment: choose from digits, gratings, shapes, strokes",
        ),
        (
            "build_database",
            ["--config.tasks.strokes.source=generated:stroke"],
            "task strokes: no family 'stroke' of generated images",
        ),
        (
            "train_teacher",
            ["--config.tasks.digits.source=missing.zip"],
            "no dataset 'missing.zip': no such file",
        ),
        ("meta_train", [], "/database has no task gratings: run bin/build_database.py"),
        ("search", [], "/predictor/checkpoint: run bin/meta_train.py"),
        ("distill", ["--task=digits"], "/search/digits/search.json does not exist"),
        (
            "search",
            ["--config.tasks.digits.role=meta_valid"],
            "no task has the role meta_test: name one with --task",
        ),
        ("search", ["--name=a/b"], "a search cannot be named 'a/b': use letters"),
        ("distill", ["--task=digits", "--search=small"], "/search/digits/small/search.json does"),
        ("export", [], "--task is missing: name the task whose student to export"),
        (
            "export",
            ["--task=digits"],
            "/search/digits/search.json does not exist: run bin/search.py",
        ),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(tmp_path, name, arguments, message):
    assert_one_line(name, [SMOKE, *arguments], message, tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def get_config(:\n", "--config: invalid syntax (mine.py, line 1)"),
        ("import no_such_module\n", "--config: No module named 'no_such_module'"),
        ("def get_config():\n    raise TypeError('first\\nlast')\n", "--config: last"),
        ("get = 1\n", "--config: the file must define get_config()"),
        ("def get_config():\n    return {}\n", "--config: get_config() must return what"),
        (
            LIGHT.replace("return", "config =") + "    config.kd.sgd.epochs = '4'\n",
            "--config: the field 'epochs' is '4': give a value of type int",
        ),
    ],
)
def test_a_broken_configuration_file_is_one_line(tmp_path, source, message):
    path = tmp_path / "mine.py"
    path.write_text(source)
    assert_one_line("build_database", [f"--config={path}"], message, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_missing_workdir_is_one_line(tmp_path):
    path = tmp_path / "light.py"
    path.write_text(LIGHT)
    answer = command("search", f"--config={path}")
    assert answer.returncode == 2
    assert answer.stderr == "search.py: error: --workdir is missing: see search.py --help\n"


def test_debug_shows_where(tmp_path):
    answer = command("meta_train", "--config=missing.py", "--debug", f"--workdir={tmp_path / 'w'}")
    assert answer.returncode != 0
    assert answer.stderr.startswith("Traceback")
