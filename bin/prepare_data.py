#!/usr/bin/env python3
"""Lists, prepares, verifies and shows datasets, and draws class splits of them."""

from absl import flags

from dass_jax import cli

_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "prepare: also decode the images to this size."
)
_FILES = flags.DEFINE_multi_string(
    "file", None, "prepare: the official file to use; several times if there are several."
)
_OUTPUT = flags.DEFINE_string("output", None, "show, splits: the file to write.")
_CLASSES = flags.DEFINE_integer("classes", 12, "show: how many classes.")
_TRAIN_SPLITS = flags.DEFINE_integer("train_splits", 8, "splits: that train the predictor.")
_VALID_SPLITS = flags.DEFINE_integer("valid_splits", 2, "splits: that select the predictor.")
_CLASSES_PER_SPLIT = flags.DEFINE_integer("classes_per_split", 40, "splits: classes of each.")
_SEED = flags.DEFINE_integer("seed", 0, "splits: the same seed draws the same splits.")

_USAGE = """list | prepare SOURCE... | verify SOURCE... | show SOURCE | splits SOURCE | clean

  list     what is known, what is prepared, where files are looked for (the default)
  prepare  SOURCE... or all: from files at hand or by download
  verify   SOURCE... or all: compares files with their checksums
  show     a contact sheet of SOURCE, as PNG
  splits   class splits of SOURCE for meta-training, as JSON
  clean    removes all decoded images, which are made again when they are needed

 """


def main(arguments: list[str]) -> None:
    """Calls what the first argument names."""
    from dass_jax.errors import UserError
    from dass_jax.workflow import datasets

    action, *sources = arguments or ["list"]
    if action == "list" and not sources:
        datasets.print_datasets()
    elif action == "clean" and not sources:
        datasets.clean()
    elif action == "prepare" and sources:
        datasets.prepare(sources, _FILES.value, _IMAGE_SIZE.value)
    elif action == "verify" and sources:
        datasets.verify(sources)
    elif action == "show" and len(sources) == 1:
        datasets.show(sources[0], _OUTPUT.value, _CLASSES.value, _IMAGE_SIZE.value)
    elif action == "splits" and len(sources) == 1:
        datasets.write_splits(
            sources[0], _OUTPUT.value, _TRAIN_SPLITS.value, _VALID_SPLITS.value,
            _CLASSES_PER_SPLIT.value, _SEED.value,
        )  # fmt: skip
    else:
        raise UserError(f"cannot {' '.join(arguments)}: see prepare_data.py --help")


if __name__ == "__main__":
    cli.run_plain(main, __doc__, _USAGE)
