import pytest

from dass_jax.console import console
from dass_jax.workflow.meta_train import OTHER_IMAGES, _print_summary


def printed(predictor):
    free = {"parameters": 0.5, "FLOPs": 0.25, "remapped accuracy": -1.0, OTHER_IMAGES: 0.9}
    spearman = {"birds": {"predictor": predictor} | free, "cars": {"predictor": predictor} | free}
    with console.capture() as capture:
        _print_summary({"spearman": spearman, "episode": 3, "seconds": 61.0})
    return " ".join(capture.get().split())


@pytest.mark.parametrize("predictor", [0.5, 0.1, -0.2])
def test_a_predictor_that_is_no_better_than_what_is_free_says_so(predictor):
    note = f"Note: ranking these tasks by parameters reaches 0.50, the predictor {predictor:.2f}"
    assert note in printed(predictor)


def test_one_that_is_better_does_not():
    said = printed(0.6)
    assert "mean │ 0.60 │ 0.50" in said
    assert "Note" not in said
