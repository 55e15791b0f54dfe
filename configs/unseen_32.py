"""Tiny-ImageNet splits as source tasks and four unseen datasets, at 32x32.

Command:  export DASS_DATA_DIR=...   # the folder with the five files named below
          for command in build_database meta_train evaluate search; do
            bin/$command.py --config=configs/unseen_32.py --workdir=work/unseen_32
          done
Hardware: 2 CPU cores, some hours, which ``bin/build_database.py --dry_run`` predicts. What is in
          the files: docs/results.md.

Most teachers, also those of the three small datasets of photographs, start from a teacher of all
Tiny-ImageNet classes, which holds out the same validation images. Three of the source tasks' and
that of the drawings are trained afresh, so that source tasks have strong and weak teachers.
"""

from dass_jax.data.class_splits import class_splits
from dass_jax.data.split_manifest import split_tasks
from dass_jax.experiment import default_config

TINY_IMAGENET = "tiny-imagenet-200.zip"
FINE_TUNED = {"teacher_init": "pretrain", "teacher_learning_rate": 0.01}
# About a thousand test images each where there are so many.
UNSEEN = {
    "cars": {
        "source": "stanford-cars.zip",
        "classes": tuple(range(120)),
        "valid_per_class": 5,
        **FINE_TUNED,
    },
    "cub": {
        "source": "cub-200-2010.zip",
        "classes": tuple(range(130)),
        "train_per_class": 12,
        "valid_per_class": 4,
        **FINE_TUNED,
    },
    "dtd": {"source": "dtd10.zip", "valid_per_class": 20, **FINE_TUNED},
    # 20 training images of each class, as in the paper
    "quickdraw": {
        "source": "quickdraw345.npz",
        "classes": tuple(range(100)),
        "train_per_class": 20,
        "valid_per_class": 10,
        "test_per_class": 10,
    },
}


def _source_tasks():
    """Splits of Tiny-ImageNet's classes: many and few classes, many and few images of each."""
    splits = class_splits(200, num_train_splits=6, num_valid_splits=2, classes_per_split=20, seed=0)
    selecting = {label for split in splits.valid for label in split}
    others = [label for label in range(200) if label not in selecting]
    tasks = split_tasks(TINY_IMAGENET, splits, valid_per_class=50)
    for name, task in tasks.items():
        is_strong = task["role"] == "meta_valid" or int(name[-1]) % 2
        task |= {"teacher_epochs": 8, **FINE_TUNED} if is_strong else {"teacher_epochs": 12}
        task["train_per_class"] = 150 if task["role"] == "meta_train" else 60
    tasks["wide0"] = {
        "role": "meta_train",
        "source": TINY_IMAGENET,
        "classes": tuple(others[::2]),
        "train_per_class": 15,
        "valid_per_class": 12,
        "teacher_epochs": 8,
        **FINE_TUNED,
    }
    return tasks


def get_config():
    """Nine splits of 20 or 80 classes make the predictor, four datasets are unseen."""
    config = default_config()
    config.image_size = 32
    config.space.stage_widths = (16, 32, 64, 128)
    config.space.stage_depth = 3
    config.teacher.sgd.epochs = 24
    config.teacher.sgd.eval_every = 4
    for kd in (config.kd, config.final):
        kd.sgd.epochs = 6
        kd.sgd.eval_every = 2
        kd.num_views = 12
    for sgd in (config.teacher.sgd, config.kd.sgd, config.final.sgd):
        sgd.batch_size = 32
        sgd.learning_rate = 0.03
    # chosen by source tasks that members of the ensemble hold out, see ablations.py
    config.predictor.inputs = "AKC"
    config.predictor.scale = "teacher"
    config.predictor.probe_images = 256
    # source tasks have no other use for their test images
    config.target = "pooled_accuracy"
    # two members hold out each of the nine source tasks; so few tasks are learned in few episodes
    config.meta.ensemble = 18
    config.meta.held_out = 1
    config.meta.rank_weight = 0.3
    config.meta.episodes = 72
    config.meta.eval_every = 4
    config.search.max_flops = "50%"
    # nothing is measured before the choice: what predictor and baselines choose is compared alike
    config.search.verify = 0
    config.search.random_students = 10
    config.search.rivals = ("parameters", "KD loss, recalibrated")
    config.database.students_per_task = 16
    config.database.students_per_batch = 16

    config.tasks.pretrain = {
        "role": "pretrain",
        "source": TINY_IMAGENET,
        "train_per_class": 100,
        "valid_per_class": 50,
    }
    for name, task in _source_tasks().items():
        config.tasks[f"tiny_{name}"] = task
    for name, task in UNSEEN.items():
        config.tasks[name] = {"role": "meta_test", "replicates": 2, **task}
    return config
