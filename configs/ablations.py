"""What each ingredient of the predictor earns, on the database of unseen_32.py.

Command:  W=work/unseen_32   # with the database; see unseen_32.py
          for v in AKC AKC_noadapt AKC_nocorrelation AKC_first AKC_support AKC_accuracy \
              AKC_uniform AKC_uniformlast AKC_last AKC_random A A_flat K C AK KC S ST SA STA \
              STA_noadapt STA_first STAD STAIDKC paper paper_photographs metad2a; do
            bin/meta_train.py --config=configs/ablations.py:$v --workdir=$W --predictor=$W/$v
            p="$p --predictor=$W/$v"
          done
          bin/evaluate.py --config=configs/unseen_32.py --workdir=$W --output=$W/ablations $p
Hardware: 2 CPU cores, some minutes for each.

A variant is named by its inputs and by what else is changed. All but the last two have what the
configuration has, but half as many members: targets in units of the distance from chance to the
teacher, the correlation loss, members that hold out a pair of tasks each. In these units the
teacher's own target is 1 in every task, so that adaptation learns from what the teacher looks like,
and not from how accurate it is; ``accuracy`` learns accuracies as they are.

Meta-training prints how each variant ranks the source tasks, each by members of the ensemble that
have not seen it: what is chosen, is chosen by that. The classes of source tasks overlap, so that
unseen datasets are harder. (``paper`` trains on the tasks of its own role and is judged by two
others, so that its figure is of other tasks.) The evaluation on unseen tasks comes once; its first
predictor is the one that the verdict is about.

``paper`` is DaSS as published, ``paper_photographs`` the same on the sixteen splits of photographs
alone, with which it had ranked the first unseen tasks best. ``metad2a`` stands for a predictor that
knows nothing of distillation, as MetaD2A (Lee et al., ICLR 2021): architecture and dataset alone,
accuracies as they are, no adaptation. Its dataset encoder sees the features of the task's own
teacher, where MetaD2A has those of an ImageNet network.
"""

import pathlib
import runpy

from dass_jax.errors import UserError

# What all variants have in common, beside the paper's defaults.
PREDICTOR = {"architecture": "graph", "scale": "teacher", "remapping": None}
META = {
    "ensemble": 19,
    "held_out": 2,
    "correlation_weight": 0.3,
    "learning_rate": 5e-4,
    "episodes": 72,
    "eval_every": 4,
}
PHOTOGRAPHS = ("tiny_train", "tiny_wide", "tiny_valid")
# What a name changes in the predictor and in meta-training.
CHANGES = {
    "flat": ({"architecture": "flat"}, {}),
    "accuracy": ({"scale": "accuracy"}, {}),
    "noadapt": ({}, {"inner_steps": 0}),
    "first": ({}, {"first_order": True}),
    "nocorrelation": ({}, {"correlation_weight": 0.0}),
    "support": ({}, {"support_students": 4}),
    "last": ({"remapping": "copy_paste_last"}, {}),
    "uniform": ({"remapping": "copy_paste_uniform"}, {}),
    "uniformlast": ({"remapping": "copy_paste_uniform_last"}, {}),
    "random": ({"remapping": "random_init"}, {}),
}
AS_PUBLISHED = {"scale": "accuracy", "graph_features": 64}
WHOLE = {
    "paper": (
        AS_PUBLISHED | {"inputs": "STA", "architecture": "flat"},
        {
            "ensemble": 1,
            "held_out": 0,
            "correlation_weight": 0.0,
            "episodes": 1000,
            "eval_every": 20,
        },
    ),
    "metad2a": (AS_PUBLISHED | {"inputs": "AD"}, {"inner_steps": 0, "correlation_weight": 0.0}),
}


def _leave_photographs(tasks):
    """Drops the other source tasks."""
    for name, task in list(tasks.items()):
        if task.role in ("meta_train", "meta_valid") and not name.startswith(PHOTOGRAPHS):
            del tasks[name]


def get_config(variant="STA"):
    """The tasks of unseen_32.py and one predictor; ``configs/ablations.py:VARIANT``."""
    path = pathlib.Path(__file__).with_name("unseen_32.py")
    config = runpy.run_path(str(path))["get_config"]()
    if variant == "paper_photographs":
        variant = "paper"
        _leave_photographs(config.tasks)
    inputs, *names = variant.split("_")
    if unknown := set(names) - set(CHANGES):
        raise UserError(f"no ablation changes {unknown}: choose from {', '.join(CHANGES)}")
    changes = [WHOLE[variant]] if variant in WHOLE else [CHANGES[name] for name in names]
    config.predictor.update(PREDICTOR | {"inputs": inputs if variant not in WHOLE else "STA"})
    config.meta.update(META)
    for predictor, meta in changes:
        config.predictor.update(predictor)
        config.meta.update(meta)
    return config
