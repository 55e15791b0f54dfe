"""What the README tells people to type exists: commands, flags, fields, files, names."""

import dataclasses
import pathlib
import re
import shlex

import pytest

import dass_jax
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import default_config, from_config

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.S)
# what a user is told to make
OWN_FILES = {"configs/mine.py", "configs/NAME.py"}


def commands():
    """Every call of a command, from blocks and from the text."""
    shell = "\n".join(text for language, text in BLOCKS if not language)
    lines = re.sub(r"\\\n\s*", " ", shell).splitlines()
    inline = re.findall(r"`((?:\./)?bin/\w+\.py[^`]*|python benchmarks/[^`]*)`", README)
    calls = [line for line in lines if re.match(r"(\./)?bin/|python benchmarks/", line)]
    return [shlex.split(call.replace("[", " ").replace("]", " "), comments=True)
            for call in (*calls, *inline)]  # fmt: skip


CALLS = commands()


def flags_of(script):
    """The names of a script's own flags and of those that all commands share."""
    sources = (ROOT / script, ROOT / "dass_jax" / "cli.py")
    defined = r'DEFINE_\w+\(\s*"(\w+)"'
    return {name for path in sources for name in re.findall(defined, path.read_text())}


def test_there_are_commands():
    scripts = {call[0] for call in CALLS}
    ours = {f"bin/{path.name}" for path in (ROOT / "bin").glob("*.py")}
    assert ours <= scripts, "a command that the README does not name"


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_command_and_its_flags_exist(call):
    script = call[1] if call[0] == "python" else call[0].removeprefix("./")
    assert (ROOT / script).is_file()
    if not script.endswith(".py"):
        return
    for word in call[1:]:
        if word.startswith("--config."):
            continue
        if flag := re.match(r"--(?:no)?(\w+)", word):
            assert flag[1] in flags_of(script), word
        if path := re.match(r"--config=(.+)", word):
            assert path[1] in OWN_FILES or (ROOT / path[1].split(":")[0]).is_file()


@pytest.mark.parametrize(
    "field", sorted(set(re.findall(r"--config\.([a-z][\w.]*?)[=`, ]", README)))
)
def test_a_field_of_the_configuration_exists(field):
    config = default_config()
    for name in field.split("."):
        assert name in config, field
        config = config[name]


SECTIONS = "|".join(name for name in default_config() if name != "tasks")
IN_PROSE = set(re.findall(rf"`(?:config\.)?((?:{SECTIONS})\.[a-z][\w.]*)", README))


@pytest.mark.parametrize("field", sorted(IN_PROSE))
def test_a_field_that_the_text_names_exists(field):
    if field.endswith((".py", ".json")):
        return
    config = default_config()
    for name in field.split("."):
        assert name in config, field
        config = config[name]


def test_the_text_names_fields():
    assert {"search.max_flops", "kd.networks_per_step", "teacher.sgd"} <= IN_PROSE


TASKS = [text for _, text in BLOCKS if text.startswith("config.tasks.")]


@pytest.mark.parametrize("code", TASKS, ids=lambda code: code[:30])
def test_a_task_can_be_written_so(code):
    config = default_config()
    exec(code, {"config": config})
    (task,) = from_config(config).tasks
    assert task.source == "birds.zip"


@pytest.mark.parametrize("field", sorted(set(re.findall(r'`"(\w+)"[:`]', README))))
def test_a_field_of_a_task_exists(field):
    assert field in {one.name for one in dataclasses.fields(TaskSpec)}


def test_the_library_is_used_so():
    (code,) = (text for _, text in BLOCKS if "remapping.remap(" in text)
    # the same calls on a network that compiles in no time
    sizes = {"(16, 32, 64, 128)": "(2, 2)", "stage_depth=3": "stage_depth=1, strides=(1, 2)",
             "(4, 32, 32, 3)": "(4, 8, 8, 3)"}  # fmt: skip
    for size, small in sizes.items():
        assert size in code
        code = code.replace(size, small)
    names: dict = {}
    exec(code, names)
    assert names["logits"].shape == (4, 10)


@pytest.mark.parametrize(
    "code",
    [text for language, text in BLOCKS if language == "python"],
    ids=lambda code: code[:40],
)
def test_python_compiles_and_names_exist(code):
    compile(code, "README.md", "exec")
    for name in re.findall(r"\bdass_jax\.(\w+)\(", code):
        assert name in dir(dass_jax)


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))), ids=lambda link: link
)
def test_a_link_leads_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:configs|benchmarks|notebooks)/[\w/.]+)`", README)))
)
def test_a_file_exists(path):
    assert (ROOT / path).exists()
