"""What README.md and docs/ tell people to type exists: commands, flags, fields, files, names."""

import dataclasses
import pathlib
import re
import shlex

import pytest

import dass_jax
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import default_config, from_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
README = PAGES[ROOT / "README.md"]
CONFIGURATION = PAGES[ROOT / "docs" / "configuration.md"]
TEXT = "\n".join(PAGES.values())
# what a user is told to make
OWN_FILES = {"configs/mine.py", "configs/NAME.py"}


def blocks_of(text):
    """The language and the content of each fenced block."""
    return re.findall(r"```(\w*)\n(.*?)```", text, flags=re.S)


BLOCKS = [block for page in PAGES.values() for block in blocks_of(page)]


def _words(calls):
    return [shlex.split(call.replace("[", " ").replace("]", " "), comments=True) for call in calls]


def typed(text):
    """Every call of a command in a block, which is to be typed as it is."""
    shell = "\n".join(text for language, text in blocks_of(text) if not language)
    lines = re.sub(r"\\\n\s*", " ", shell).splitlines()
    return _words(line for line in lines if re.match(r"(\./)?bin/|python benchmarks/", line))


def inline(text):
    """Every call of a command that the text names."""
    return _words(re.findall(r"`((?:\./)?bin/\w+\.py[^`]*|python benchmarks/[^`]*)`", text))


CALLS = [call for page in PAGES.values() for call in (*typed(page), *inline(page))]


def script_of(call):
    """The file that a call runs."""
    return call[1] if call[0] == "python" else call[0].removeprefix("./")


def flags_of(script):
    """The names of a script's own flags and of those that all commands share."""
    sources = (ROOT / script, ROOT / "dass_jax" / "cli.py")
    defined = r'DEFINE_\w+\(\s*"(\w+)"'
    return {name for path in sources for name in re.findall(defined, path.read_text())}


def needed_by(script):
    """The flags without which a script does nothing, as its usage says."""
    source = (ROOT / script).read_text()
    calls = r'run_plain\(\w+, \w+, "([^"]*)"'
    if re.search(r"\bcli\.run\(", source):
        source = (ROOT / "dass_jax" / "cli.py").read_text()
    return {name for usage in re.findall(calls, source) for name in re.findall(r"--(\w+)=", usage)}


def given_in(call):
    """The names of the flags that a call gives."""
    found = (re.match(r"--(\w+)(?:=|$)", word) for word in call)
    return {flag[1] for flag in found if flag}


def test_there_are_commands():
    scripts = {call[0] for call in (*typed(README), *inline(README))}
    ours = {f"bin/{path.name}" for path in (ROOT / "bin").glob("*.py")}
    assert ours <= scripts, "a command that the README does not name"


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_command_and_its_flags_exist(call):
    script = script_of(call)
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


def test_what_commands_need_is_known():
    assert needed_by("bin/meta_train.py") == {"config", "workdir"}
    assert needed_by("benchmarks/kd_precision.py") == {"config", "workdir"}
    assert needed_by("bin/inspect_database.py") == {"workdir"}
    assert not needed_by("bin/prepare_data.py")
    assert not needed_by("benchmarks/kd_throughput.py")


# the text may name a command with the flag that it is about alone
FULL = [call for page in PAGES.values() for call in typed(page)]
FULL += [call for page in PAGES.values() for call in inline(page)
         if given_in(call) & {"config", "workdir"}]  # fmt: skip


@pytest.mark.parametrize("call", FULL, ids=" ".join)
def test_a_full_command_has_what_it_needs(call):
    assert needed_by(script_of(call)) <= given_in(call)


@pytest.mark.parametrize("field", sorted(set(re.findall(r"--config\.([a-z][\w.]*?)[=`, ]", TEXT))))
def test_a_field_of_the_configuration_exists(field):
    config = default_config()
    for name in field.split("."):
        assert name in config, field
        config = config[name]


SECTIONS = "|".join(name for name in default_config() if name != "tasks")
IN_PROSE = set(re.findall(rf"`(?:config\.)?((?:{SECTIONS})\.[a-z][\w.]*)", TEXT))


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


def fields_of(config, prefix=""):
    """All fields of a configuration with their values, by their full names."""
    fields = {}
    for name, value in config.items():
        if hasattr(value, "items"):
            fields |= fields_of(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def test_all_fields_and_their_defaults_are_told():
    told = {}
    for names, default in re.findall(r"^\| ([^|\"]+) \| `(.*?)` \|", CONFIGURATION, flags=re.M):
        told |= dict.fromkeys(re.findall(r"`([\w.]+)`", names), default)
    assert told == {name: str(value) for name, value in fields_of(default_config()).items()}


def test_all_fields_of_a_task_and_their_defaults_are_told():
    told = dict(re.findall(r'^\| `"(\w+)"` \| (.*?) \|', CONFIGURATION, flags=re.M))
    assert told == {
        one.name: "must be given" if one.default is dataclasses.MISSING else f"`{one.default}`"
        for one in dataclasses.fields(TaskSpec)
        if one.name != "name"
    }


TASKS = [text for _, text in BLOCKS if text.startswith("config.tasks.")]


def test_the_text_shows_a_task():
    assert TASKS


@pytest.mark.parametrize("code", TASKS, ids=lambda code: code[:30])
def test_a_task_can_be_written_so(code):
    config = default_config()
    exec(code, {"config": config})
    (task,) = from_config(config).tasks
    assert task.source == "birds.zip"


@pytest.mark.parametrize("field", sorted(set(re.findall(r'`"(\w+)"[:`]', TEXT))))
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
    names = re.findall(r"\bdass_jax\.(\w+)\(", code)
    for name in names:
        assert name in dir(dass_jax)
    assert not names or "import dass_jax" in code


def anchors_of(page):
    """What a link can point at within a page: its headings, as they are spelled in addresses."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", PAGES[page], flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = sorted(
    (page.relative_to(ROOT).as_posix(), link)
    for page, text in PAGES.items()
    for link in set(re.findall(r"\]\(([^)\s]+)\)", text))
    if "://" not in link
)


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda part: part)
def test_a_link_leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors_of(target.resolve())


def test_every_page_is_listed_in_the_readme():
    linked = {link.partition("#")[0] for page, link in LINKS if page == "README.md"}
    assert {path.relative_to(ROOT).as_posix() for path in PAGES} - {"README.md"} <= linked


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:configs|benchmarks|notebooks)/[\w/.]+)`", TEXT)))
)
def test_a_file_exists(path):
    assert (ROOT / path).exists()
