"""A teacher on each of five real datasets at 32x32: are the images and their labels right?

Command:  export DASS_DATA_DIR=...   # the folder with the five files named below
          bin/train_teacher.py --config=configs/real_teachers_32.py --workdir=work/real_teachers
Hardware: 2 CPU cores, half an hour. Expected result: docs/results.md, which also
          says what is in the files.
"""

from dass_jax.experiment import default_config

# Small enough for a CPU: the first classes of those with many, few images of those with many.
TASKS = {
    "tiny_imagenet": {
        "source": "tiny-imagenet-200.zip",
        "classes": tuple(range(40)),
        "train_per_class": 100,
        "valid_per_class": 25,
    },
    "cub": {"source": "cub-200-2010.zip", "classes": tuple(range(40)), "valid_per_class": 4},
    "cars": {"source": "stanford-cars.zip", "classes": tuple(range(40)), "valid_per_class": 5},
    "dtd": {"source": "dtd10.zip", "valid_per_class": 20},
    # 20 training images of each class, as in the paper
    "quickdraw": {"source": "quickdraw345.npz", "train_per_class": 20, "valid_per_class": 10},
}


def get_config():
    """20 epochs for every teacher."""
    config = default_config()
    config.image_size = 32
    config.space.stage_widths = (16, 32, 64, 128)
    config.space.stage_depth = 3
    config.teacher.sgd.epochs = 20
    config.teacher.sgd.batch_size = 16
    config.teacher.sgd.learning_rate = 0.02
    config.teacher.sgd.eval_every = 5
    for name, task in TASKS.items():
        config.tasks[name] = {"role": "meta_test", **task}
    return config
