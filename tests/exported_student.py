"""Runs an exported student without dass_jax, then with it; run by test_export.py.

Usage: python exported_student.py FOLDER IMAGES.npy OUTPUT.npz, in a process of its own, which knows
nothing but the files.
"""

import importlib.util
import json
import pathlib
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy


def run_stablehlo(folder, images):
    program = jax.export.deserialize(bytearray((folder / "student.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    return program.call(images)


def run_onnx(folder, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "student.onnx")
    return session.run(["logits"], {"images": images})[0]


def run_weights(config, weights, images):
    """The network from its description: a loop over stages and blocks."""

    def conv(hidden, name, stride=1):
        kernel = weights[f"params.{name}.kernel"]
        return jax.lax.conv_general_dilated(
            hidden, kernel, (stride, stride), [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def norm(hidden, name):
        mean, var = (weights[f"batch_stats.{name}.{kind}"] for kind in ("mean", "var"))
        scale, bias = (weights[f"params.{name}.{kind}"] for kind in ("scale", "bias"))
        return (hidden - mean) / np.sqrt(var + 1e-5) * scale + bias

    image = config["image"]
    hidden = (images / 255 - image["mean"]) / image["std"]
    hidden = jax.nn.relu(norm(conv(hidden.astype(np.float32), "stem_conv"), "stem_norm"))
    stages = zip(config["block_widths"], config["strides"], strict=True)
    for stage, (widths, first_stride) in enumerate(stages, 1):
        for index, width in enumerate(widths):
            name, stride = f"stage{stage}_block{index}", first_stride if index == 0 else 1
            inner = jax.nn.relu(norm(conv(hidden, f"{name}.conv1", stride), f"{name}.norm1"))
            inner = norm(conv(inner, f"{name}.conv2"), f"{name}.norm2")
            if stride == 2:
                n, height, across, channels = hidden.shape
                hidden = hidden.reshape(n, height // 2, 2, across // 2, 2, channels).max((2, 4))
            missing = max(width - hidden.shape[-1], 0)
            hidden = jnp.pad(hidden, ((0, 0), (0, 0), (0, 0), (0, missing)))[..., :width]
            hidden = jax.nn.relu(inner + hidden)
    pooled = hidden.mean((1, 2))
    return pooled @ weights["params.dense.kernel"] + weights["params.dense.bias"]


def run_safetensors(folder, images):
    config = json.loads((folder / "config.json").read_text())
    return run_weights(config, safetensors.numpy.load_file(folder / "student.safetensors"), images)


def run_checkpoint(folder, images):
    config = json.loads((folder / "config.json").read_text())
    arrays = ocp.StandardCheckpointer().restore((folder / "checkpoint" / "0" / "arrays").absolute())
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    return run_weights(config, named, images)


def main(folder, images, output):
    runs = {
        "stablehlo": run_stablehlo,
        "safetensors": run_safetensors,
        "checkpoint": run_checkpoint,
    }
    if importlib.util.find_spec("jax2onnx"):
        runs["onnx"] = run_onnx
    logits = {name: run(folder, images) for name, run in runs.items()}
    assert "dass_jax" not in sys.modules
    import dass_jax

    for name in runs:
        logits[f"load_student/{name}"] = dass_jax.load_student(folder, name)(images)
    np.savez(output, **logits)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), np.load(sys.argv[2]), sys.argv[3])
