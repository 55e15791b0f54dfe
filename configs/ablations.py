"""What each ingredient of the predictor earns, on the database of unseen_32.py.

Command:  W=work/unseen_32   # with the database; see unseen_32.py
          for v in STA S T A ST SA STAD flat noadapt first support teacher rank K C KC AKC data \
              paper metad2a last uniform uniform_last random; do
            bin/meta_train.py --config=configs/ablations.py:$v --workdir=$W --predictor=$W/$v
            p="$p --predictor=$W/$v"
          done
          bin/evaluate.py --config=configs/unseen_32.py --workdir=$W --output=$W/ablations $p
Hardware: 2 CPU cores, some minutes for each.

Meta-training prints how each variant ranks the source tasks, each by members of the ensemble that
have not seen it: what is chosen, is chosen by that. (``paper`` trains on the tasks of its own role
and is judged by two others, so that its figure is of other tasks.) The evaluation on unseen tasks
comes once.

``metad2a`` stands for a predictor that knows nothing of distillation, as MetaD2A (Lee et al., ICLR
2021): architecture and dataset alone, accuracies as they are, no adaptation. Its dataset encoder
sees the features of the task's own teacher, where MetaD2A has those of an ImageNet network.
"""

import pathlib
import runpy

# What all variants have in common, beside the paper's defaults.
PREDICTOR = {"architecture": "graph", "scale": "accuracy", "remapping": None}
META = {"ensemble": 10, "held_out": 1, "rank_weight": 0.0, "learning_rate": 5e-4, "episodes": 300}
# What a variant changes in the predictor and in meta-training; letters stand for inputs.
VARIANTS = {
    "flat": ({"architecture": "flat"}, {}),
    "noadapt": ({}, {"inner_steps": 0}),
    "first": ({}, {"first_order": True}),
    "support": ({}, {"support_students": 4}),
    "teacher": ({"scale": "teacher"}, {}),
    "data": ({"inputs": "STAIDK", "scale": "teacher"}, {}),
    "K": ({"inputs": "K", "scale": "teacher"}, {}),
    "C": ({"inputs": "C", "scale": "teacher"}, {}),
    "KC": ({"inputs": "KC", "scale": "teacher"}, {}),
    "AKC": ({"inputs": "AKC", "scale": "teacher"}, {}),
    "rank": ({"scale": "teacher"}, {"rank_weight": 0.3}),
    "paper": ({"architecture": "flat"}, {"ensemble": 1, "held_out": 0}),
    "metad2a": ({"inputs": "AD"}, {"inner_steps": 0}),
    "last": ({"remapping": "copy_paste_last"}, {}),
    "uniform": ({"remapping": "copy_paste_uniform"}, {}),
    "uniform_last": ({"remapping": "copy_paste_uniform_last"}, {}),
    "random": ({"remapping": "random_init"}, {}),
}


def get_config(variant="STA"):
    """The tasks of unseen_32.py and one predictor; ``configs/ablations.py:VARIANT``."""
    path = pathlib.Path(__file__).with_name("unseen_32.py")
    config = runpy.run_path(str(path))["get_config"]()
    predictor, meta = VARIANTS.get(variant, ({"inputs": variant}, {}))
    config.predictor.update(PREDICTOR | {"inputs": "STA"} | predictor)
    config.meta.update(META | meta)
    return config
