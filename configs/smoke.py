"""The whole path at the smallest size, for tests.

Command:  bin/build_database.py --config=configs/smoke.py --workdir=DIR, then meta_train, search
Hardware: any CPU; a minute or two. Expected result: none, the networks hardly learn.
"""

from dass_jax.experiment import default_config


def get_config():
    """Three tiny generated tasks and digits, a teacher of four stages with two narrow blocks."""
    config = default_config()
    config.image_size = 8
    config.space.stage_widths = (4, 4, 8, 8)
    config.space.stage_depth = 2
    config.augmentation.flip = False
    config.teacher.sgd.epochs = 2
    config.teacher.sgd.batch_size = 16
    config.teacher.sgd.eval_every = 1
    for kd in (config.kd, config.final):
        kd.sgd.epochs = 2
        kd.sgd.batch_size = 16
        kd.sgd.eval_every = 1
        kd.num_views = 2
    config.database.students_per_task = 4
    config.database.students_per_batch = 2
    config.predictor.hidden_channels = 4
    config.predictor.embedding_channels = 4
    config.meta.episodes = 6
    config.meta.eval_every = 2
    config.search.candidates = 16
    config.search.max_flops = "60%"
    config.search.verify = 2
    config.search.rivals = ("parameters",)
    config.search.replicates = 2
    config.search.random_students = 1
    roles = {"strokes": "meta_train", "shapes": "meta_train", "gratings": "meta_valid"}
    for family, role in roles.items():
        config.tasks[family] = {
            "role": role,
            "source": f"generated:{family}",
            "num_classes": 3,
            "train_per_class": 12,
            "valid_per_class": 5,
            "test_per_class": 5,
        }
    config.tasks.digits = {
        "role": "meta_test",
        "source": "digits",
        "test_fraction": 0.5,
        "classes": (0, 1, 2),
        "train_per_class": 12,
        "valid_per_class": 5,
        "test_per_class": 5,
    }
    return config
