"""What each ingredient of the predictor earns, on the database of unseen_32.py.

Command:  W=work/unseen_32   # with the database; see unseen_32.py
          for v in STA S T A ST SA STAD flat noadapt first support teacher data rank K C KC; do
            bin/meta_train.py --config=configs/ablations.py:$v --workdir=$W --predictor=$W/$v
            p="$p --predictor=$W/$v"
          done
          bin/evaluate.py --config=configs/unseen_32.py --workdir=$W --output=$W/ablations $p
Hardware: 2 CPU cores, some minutes for each. Expected result: see "Results" in README.md.
"""

import pathlib
import runpy

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
    "rank": ({"inputs": "AK", "scale": "teacher"}, {"rank_weight": 0.1}),
}


def get_config(variant="STA"):
    """The experiment of unseen_32.py with one change; ``configs/ablations.py:VARIANT``."""
    path = pathlib.Path(__file__).with_name("unseen_32.py")
    config = runpy.run_path(str(path))["get_config"]()
    predictor, meta = VARIANTS.get(variant, ({"inputs": variant}, {}))
    config.predictor.update(predictor)
    config.meta.update(meta)
    return config
