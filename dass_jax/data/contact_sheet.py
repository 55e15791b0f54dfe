"""A picture of a dataset: some images of some classes, with their names."""

import pathlib

import numpy as np

from dass_jax.data.images import ImageDataset
from dass_jax.data.splitting import limit_per_class

_COLUMNS = 10


def save_contact_sheet(
    dataset: ImageDataset, path: pathlib.Path, *, num_classes: int = 12, seed: int = 0
) -> None:
    """Draws training images, one class a row, as a PNG file.

    Args:
      dataset: what to draw from.
      path: of the file.
      num_classes: rows; classes are taken at even distances.
      seed: of the choice of images.
    """
    # A figure without pyplot needs no display and leaves no state behind.
    from matplotlib.figure import Figure

    rows = min(num_classes, dataset.num_classes)
    labels = np.linspace(0, dataset.num_classes - 1, rows).round().astype(int)
    drawn = limit_per_class(dataset.train, _COLUMNS, seed)
    figure = Figure(figsize=(_COLUMNS * 0.75 + 2.5, rows * 0.75 + 0.8), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    for row, label in enumerate(labels):
        images = drawn.images[drawn.labels == label]
        for column, axis in enumerate(axes[row]):
            axis.set_xticks([])
            axis.set_yticks([])
            if column < len(images):
                axis.imshow(images[column], interpolation="nearest")
            else:
                axis.set_axis_off()
        axes[row, 0].set_ylabel(
            f"{dataset.class_names[label]}", rotation=0, ha="right", va="center", fontsize=9
        )
    size = dataset.image_size
    figure.suptitle(
        f"{dataset.name}: {dataset.num_classes} classes, {size}x{size}; training "
        f"{len(dataset.train)}, validation {len(dataset.valid)}, test {len(dataset.test)}",
        fontsize=11,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")
