"""What predictors learn of the students of source tasks."""

import dataclasses
import pathlib
import runpy

import pytest
from test_database import record

from dass_jax import database as db
from dass_jax.errors import UserError
from dass_jax.experiment import from_config
from dass_jax.workdir import Workdir
from dass_jax.workflow.source_tasks import labels_of

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
RECORDS = [
    record(one, final_accuracy=0.5, best_accuracy=0.6, test_accuracy=0.1 * one) for one in range(3)
]


@pytest.fixture
def smoke():
    return from_config(runpy.run_path(str(SMOKE))["get_config"]())


def test_pooled_labels_count_every_image_once(smoke, tmp_path):
    spec, workdir = smoke.task("digits"), Workdir(tmp_path)

    def labels(target):
        settings = dataclasses.replace(smoke, target=target)
        return labels_of(settings, workdir, spec, RECORDS).tolist()

    assert labels("final_accuracy") == [0.5] * 3
    assert labels("best_accuracy") == [0.6] * 3
    with pytest.raises(UserError, match="does not tell how many images task digits has"):
        labels("pooled_accuracy")
    facts = {"images": {"train": 9, "valid": 30, "test": 10}}
    db.open_task(workdir.database, "digits", {}, facts)
    # of 40 images, 15 were right in validation and 0, 1, 2 in the test
    assert labels("pooled_accuracy") == pytest.approx([15 / 40, 16 / 40, 17 / 40])
