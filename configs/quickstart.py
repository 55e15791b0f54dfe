"""From nothing to a distilled student in minutes on a laptop: what ./bin/quickstart runs.

Command:  ./bin/quickstart
Hardware: 2 CPU cores, 5 to 12 minutes with the installation. Expected result: docs/results.md.

Ten generated tasks, two of each of five kinds, train and select the predictor; handwritten digits,
with few training images, are the unseen task.
"""

from dass_jax.experiment import default_config


def get_config():
    """Ten source tasks, digits unseen; a small teacher at 16x16."""
    config = default_config()
    config.image_size = 16
    config.space.stage_widths = (8, 16, 32, 64)
    config.space.stage_depth = 2
    config.augmentation.flip = False
    config.teacher.sgd.epochs = 20
    config.teacher.sgd.eval_every = 5
    for kd in (config.kd, config.final):
        kd.sgd.epochs = 4
        kd.sgd.eval_every = 2
        kd.num_views = 12
    # with the defaults, 64 and 0.05, some of these teachers fail to learn (docs/results.md)
    for sgd in (config.teacher.sgd, config.kd.sgd, config.final.sgd):
        sgd.batch_size = 32
        sgd.learning_rate = 0.02
    config.database.students_per_task = 16
    config.database.students_per_batch = 16
    # with few source tasks, little that is comparable between tasks serves better than graphs and
    # activation maps (see docs/results.md)
    config.predictor.inputs = "KC"
    config.predictor.scale = "teacher"
    config.predictor.probe_images = 256
    # source tasks have no other use for their test images
    config.target = "pooled_accuracy"
    config.meta.ensemble = 10
    # both tasks of a kind together, so that members judge kinds that they have never seen
    config.meta.held_out = 2
    config.meta.correlation_weight = 0.3
    config.meta.episodes = 300
    config.search.max_flops = "50%"
    config.search.verify = 4
    config.search.rivals = ("parameters", "FLOPs")
    for family in ("strokes", "gratings", "shapes", "blobs", "mixtures"):
        task = {"role": "meta_train", "source": f"generated:{family}", "valid_per_class": 60}
        config.tasks[family] = task | {"train_per_class": 60}
        config.tasks[f"{family}2"] = task | {"seed": 1, "train_per_class": 40}
    config.tasks.digits = {
        "role": "meta_test",
        "source": "digits",
        "test_fraction": 0.5,
        "train_per_class": 40,
        "valid_per_class": 30,
    }
    return config
