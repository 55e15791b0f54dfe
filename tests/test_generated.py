import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from dass_jax.data.generated import FAMILIES, generate
from dass_jax.errors import UserError


def make(family, seed=0, **changed):
    numbers = {
        "num_classes": 5,
        "images_per_class_train": 12,
        "images_per_class_test": 6,
        "image_size": 16,
    }
    return generate(family, **{**numbers, **changed}, seed=seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_datasets_are_complete_and_reproducible(family):
    made, again = make(family), make(family)
    assert made.name == f"generated:{family}"
    assert np.bincount(made.parts["train"].labels).tolist() == [12] * 5
    assert np.bincount(made.parts["test"].labels).tolist() == [6] * 5
    assert len(set(made.class_names)) == 5
    for first, second in (
        (made.parts["train"], again.parts["train"]),
        (made.parts["test"], again.parts["test"]),
    ):
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)
    # No image is another's copy, within a split or across.
    everything = np.concatenate([made.parts["train"].images, made.parts["test"].images]).reshape(
        90, -1
    )
    assert len(np.unique(everything, axis=0)) == 90


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_give_other_tasks(family):
    first, second = (make(family, seed=seed, images_per_class_train=60) for seed in (0, 1))
    means = [
        np.stack(
            [made.parts["train"].images[made.parts["train"].labels == c].mean(0) for c in range(5)]
        )
        for made in (first, second)
    ]
    assert np.abs(means[0] - means[1]).max() > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_number_of_test_images_leaves_training_images_alone(family):
    few, many = (make(family, images_per_class_test=count) for count in (1, 9))
    np.testing.assert_array_equal(few.parts["train"].images, many.parts["train"].images)


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_show_the_same_classes(family):
    assert make(family).class_names == make(family, image_size=32).class_names
    assert make(family, image_size=32).parts["train"].images.shape[1] == 32


@pytest.mark.parametrize("family", ["strokes", "gratings", "blobs"])
def test_many_classes(family):
    numbers = {"images_per_class_train": 1, "images_per_class_test": 1, "image_size": 8}
    assert len(make(family, num_classes=100, **numbers).class_names) == 100


def features(family, images):
    gray = images.astype(np.float32).mean(-1)
    if family == "gratings":
        # Of random phase: only the spectrum tells the classes apart.
        gray = np.abs(np.fft.rfft2(gray - gray.mean((1, 2), keepdims=True)))
        return gray.reshape(len(gray), -1)
    if family in ("shapes", "mixtures"):
        # Of random colour: edges tell more than brightness.
        gray = np.hypot(*np.gradient(gray, axis=(1, 2)))
    if family != "blobs":
        images = gray[..., None]
    pooled = images.reshape(len(images), 8, 2, 8, 2, -1).mean((2, 4))
    return pooled.reshape(len(images), -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_problems_are_learnable_and_not_trivial(family):
    made = make(family, num_classes=10, images_per_class_train=80, images_per_class_test=40)
    train, test = (
        features(family, part.images) for part in (made.parts["train"], made.parts["test"])
    )
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    accuracy = classifier.fit(train, made.parts["train"].labels).score(
        test, made.parts["test"].labels
    )
    assert 0.2 < accuracy < 0.95


@pytest.mark.parametrize(
    ("family", "changed", "message"),
    [
        ("stroke", {}, "no family 'stroke' .* did you mean 'strokes'"),
        ("clouds", {}, "choose one of strokes, gratings, shapes, blobs, mixtures"),
        ("blobs", {"num_classes": 1}, "cannot generate 1 classes"),
        ("blobs", {"images_per_class_test": 0}, "0 test images"),
        ("blobs", {"seed": -1}, "seed -1 is negative"),
        ("shapes", {"num_classes": 99}, "generated:shapes has 38 classes, fewer than 99"),
        ("mixtures", {"num_classes": 999}, "generated:mixtures has 190 classes"),
    ],
)
def test_mistakes_are_refused(family, changed, message):
    with pytest.raises(UserError, match=message):
        make(family, **changed)
