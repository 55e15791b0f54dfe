"""A student for your own dataset and teacher: copy this file, and edit the lines marked EDIT.

Command:  cp configs/template.py configs/mine.py
          bin/train_teacher.py --config=configs/mine.py --workdir=work/mine --task=birds
          bin/build_database.py --config=configs/mine.py --workdir=work/mine --dry_run
          for command in build_database meta_train search; do
            bin/$command.py --config=configs/mine.py --workdir=work/mine
          done
          bin/export.py --config=configs/mine.py --workdir=work/mine --task=birds
Hardware: any; ``--dry_run`` predicts time, disk and memory on the present one. The first command
          reads your teacher and measures it, so that a mistake shows at once.

All fields and their defaults, which are the paper's: docs/configuration.md. Nothing here was tuned
on a dataset of yours. The predictor looks at what quickstart.py's does, which suits few source
tasks; unseen_32.py, with many of them, also shows it the architecture.
"""

from dass_jax.data.class_splits import class_splits
from dass_jax.data.split_manifest import split_tasks
from dass_jax.experiment import default_config


def _own_task(config):
    """The dataset and the teacher that a student is wanted for."""
    config.tasks.birds = {
        "role": "meta_test",
        # EDIT: a folder, an archive, an .npz file or a TFDS name, see docs/datasets.md. A relative
        # path starts at the current folder, or else at the one that DASS_DATA_DIR names.
        "source": "birds.zip",
        # Images of each class that are cut from the training images. The more there are, the less
        # noisy is what the search measures.
        "valid_per_class": 20,
        # EDIT: its weights; leave the line out, and a teacher is trained. A relative path starts at
        # the current folder. It must have the shape of config.space and these classes in this
        # order, and must have been trained on images scaled to [-1, 1], as x / 127.5 - 1.
        "teacher": "teacher.pth.tar",
        # If the teacher was trained on the validation images, too, it looks too good: then give the
        # accuracy, a fraction, that it has on images it has not seen.
        # "teacher_accuracy": 0.85,
        # The database is for the predictor: of your task, no student need be measured.
        "students": 0,
    }


def _source_tasks(config):
    """Datasets that the predictor learns from; the more they are like yours, the better."""
    # EDIT: any datasets serve. Each needs images for training a teacher and for measuring students;
    # tasks with different numbers of classes and images teach the predictor more. Here are splits
    # of the classes of Tiny-ImageNet, which is downloaded, or found in DASS_DATA_DIR.
    splits = class_splits(200, num_train_splits=8, num_valid_splits=2, classes_per_split=20, seed=0)
    sizes = {"train_per_class": 200, "valid_per_class": 50}
    for name, task in split_tasks("tiny_imagenet", splits, **sizes).items():
        config.tasks[f"tiny_{name}"] = task


def get_config():
    """Ten splits of Tiny-ImageNet make the predictor; one task is yours."""
    config = default_config()
    # EDIT: pixels; a multiple of 8, the product of the strides. 32 or 64 are usual.
    config.image_size = 32
    # EDIT: the shape of your teacher, the same for all tasks: channels of each stage, and blocks in
    # each of them. Students are at most as wide and as deep. The paper has (32, 64, 128, 256), 5.
    config.space.stage_widths = (16, 32, 64, 128)
    config.space.stage_depth = 3
    # EDIT: off where a mirrored image is of another class, as with digits and letters.
    config.augmentation.flip = True
    # EDIT: how long teachers train that no task gives. The paper has 180.
    config.teacher.sgd.epochs = 30
    # kd: how students are distilled for the database and for verification; what the predictor
    # predicts. final: how the choice of the search and its rivals are distilled. While the two are
    # equal, predictions are about the final networks, too. The paper has 50 epochs for both.
    for kd in (config.kd, config.final):
        kd.sgd.epochs = 10
        # Views of the images, whose teacher logits are kept on disk; with as many as the epochs of
        # all replicates together, no two replicates share one.
        kd.num_views = 20
    # The paper's are 64 and 0.05, with which teachers of few images may fail to learn; unseen_32.py
    # has these, see "Teachers and students" in docs/results.md.
    for sgd in (config.teacher.sgd, config.kd.sgd, config.final.sgd):
        sgd.batch_size = 32
        sgd.learning_rate = 0.03
    # Students of each source task, and how many train together. The paper has 50.
    config.database.students_per_task = 30
    config.database.students_per_batch = 10

    # K and C: what untrained students answer, and what they cost; see docs/predictor.md
    config.predictor.inputs = "KC"
    config.predictor.scale = "teacher"
    config.predictor.probe_images = 256
    # source tasks have no other use for their test images
    config.target = "pooled_accuracy"
    config.meta.ensemble = 10
    config.meta.held_out = 1
    config.meta.correlation_weight = 0.3
    config.meta.episodes = 300

    # EDIT: what a student may cost, as a share of the teacher or absolute ("10M", "300k", "2MB",
    # "3ms"): any of max_flops, max_params, max_bytes and max_latency; see docs/search.md.
    config.search.max_flops = "60%"
    # The best candidates are distilled and measured before one is chosen.
    config.search.verify = 4
    # What the choice is compared with under the same budget.
    config.search.random_students = 5
    config.search.rivals = ("parameters",)

    _source_tasks(config)
    _own_task(config)
    return config
