"""Class splits of Tiny-ImageNet as source tasks, DTD textures as the unseen one, at 32x32.

Command:  export DASS_DATA_DIR=...   # the folder with tiny-imagenet-200.zip and dtd10.zip
          for command in build_database meta_train search; do
            bin/$command.py --config=configs/tiny_imagenet_32.py --workdir=work/tiny_imagenet_32
          done
Hardware: 2 CPU cores, an hour. Expected result: docs/results.md, which also says what
          is in the files.
"""

from dass_jax.data.class_splits import class_splits
from dass_jax.data.split_manifest import split_tasks
from dass_jax.experiment import default_config


def get_config():
    """Four splits train the predictor, one selects it; splits have 10 classes."""
    config = default_config()
    config.image_size = 32
    config.space.stage_widths = (16, 32, 64, 128)
    config.space.stage_depth = 3
    config.teacher.sgd.epochs = 30
    config.teacher.sgd.eval_every = 5
    for kd in (config.kd, config.final):
        kd.sgd.epochs = 3
        kd.sgd.eval_every = 1
        kd.num_views = 9
    config.database.students_per_task = 12
    config.database.students_per_batch = 12
    config.meta.episodes = 400
    config.search.candidates = 500
    config.search.max_flops = "50%"
    config.search.random_students = 6

    splits = class_splits(200, num_train_splits=4, num_valid_splits=1, classes_per_split=10, seed=0)
    sizes = {"train_per_class": 150, "valid_per_class": 40}
    for name, task in split_tasks("tiny-imagenet-200.zip", splits, **sizes).items():
        config.tasks[f"tiny_{name}"] = task
    config.tasks.dtd = {"role": "meta_test", "source": "dtd10.zip", "valid_per_class": 20}
    return config
