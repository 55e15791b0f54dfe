"""The notebooks run from the first cell to the last, with smaller numbers."""

import json
import pathlib
import re

import jax
import matplotlib
import matplotlib.pyplot as plt
import pytest
from absl import logging

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"

# instead of the cell that is tagged "parameters"
TINY = {
    "IMAGE_SIZE": 8,
    "STAGE_WIDTHS": (4, 4, 4, 8),
    "CLASSES": 3,
    "SOURCES": {"strokes": "meta_train", "gratings": "meta_valid"},
    "STUDENTS": 2,
    "TEACHER_EPOCHS": 1,
    "EPISODES": 2,
    # two students everywhere, so that one compilation serves all
    "VERIFY": 2,
    "RANDOM_STUDENTS": 2,
}
SMALL = {
    "quickstart": TINY | {"IMAGES_PER_CLASS": 22, "STUDENT_EPOCHS": 2, "CANDIDATES": 6},
    "own_dataset_and_teacher": TINY | {"EPOCHS": 2, "CANDIDATES": 64, "RANDOM_STUDENTS": 1},
    "reading_a_database": {},
}


@pytest.fixture(autouse=True)
def _settings_of_others():
    """Notebooks set up JAX, which other tests shall not notice."""
    # once counted, devices stay as many as the other tests expect
    jax.devices()
    precision, verbosity = jax.config.jax_default_matmul_precision, logging.get_verbosity()
    yield
    jax.config.update("jax_default_matmul_precision", precision)
    logging.set_verbosity(verbosity)


DATABASE = str(NOTEBOOKS.parent / "results" / "quickstart" / "database")


def cells(name):
    """The code cells of a notebook with their tags."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def test_every_notebook_is_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
def test_notebooks_are_clean_and_use_the_public_interface(name):
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    code = "\n".join(source for source, _ in cells(name))
    assert not re.findall(r"dass_jax\._|from dass_jax|import dass_jax\.", code)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    # its plots are shown, which does nothing here
    monkeypatch.setattr(plt, "show", plt.close)
    shown = []
    scope = {"__name__": name}
    for source, tags in cells(name):
        if "install" in tags:
            continue
        exec(compile(source, f"{name}.ipynb", "exec"), scope)
        if "parameters" in tags:
            unknown = SMALL[name].keys() - scope.keys()
            assert not unknown
            scope |= SMALL[name] | ({"DATABASE": DATABASE} if "DATABASE" in scope else {})
        if "display" in scope:
            scope["display"] = shown.append
    if name == "reading_a_database":
        assert "test-retest" in capsys.readouterr().out
    else:
        (page,) = shown
        assert "<svg" in page.data
        assert scope["found"]["top"]
        assert scope["student"].config.num_classes
