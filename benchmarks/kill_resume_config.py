"""One tiny task for ``kill_resume.py``.

Command:  see kill_resume.py
Hardware: any CPU; seconds. Expected result: none, the networks hardly learn.
"""

from dass_jax.experiment import default_config


def get_config():
    """Three generated shapes, eleven students in six batches, the last of one alone."""
    config = default_config()
    config.image_size = 8
    config.space.stage_widths = (4,)
    config.space.stage_depth = 1
    config.space.strides = (2,)
    config.augmentation.flip = False
    config.teacher.sgd.epochs = 2
    config.teacher.sgd.batch_size = 16
    config.kd.sgd.epochs = 8
    config.kd.sgd.batch_size = 16
    config.kd.sgd.eval_every = 4
    config.kd.num_views = 2
    config.database.students_per_task = 11
    config.database.students_per_batch = 2
    config.tasks.shapes = {
        "role": "meta_test",
        "source": "generated:shapes",
        "num_classes": 3,
        "train_per_class": 32,
        "test_per_class": 10,
    }
    return config
