"""The networks of `quantised_set.py` as floats without their softmax, so that answers are compared in steps, one
folder a case: `model.onnx` and `rows.npz` with `image` and the classes `label`. And what onnxruntime answers to
quantised ones: for every other `.onnx` of a case a `.npz` of the same name, with `exact` of operators as they stand,
`fused` of onnxruntime's own rewriting.

usage: float_set.py FOLDER | float_set.py FOLDER answers
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from sklearn.datasets import load_digits

import quantised_set as nets

ROWS = 1000


def without_softmax(model):
    """The answers are logits."""
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    for node in model.graph.node:
        node.input[:] = [softmax.input[0] if name == softmax.output[0] else name for name in node.input]
    model.graph.node.remove(softmax)
    onnx.checker.check_model(model, full_check=True)
    return model


def make(target):
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    seen = slice(0, len(images) - nets.ROWS)
    builders = [(nets.linear, 13), (nets.mlp, 15), (nets.cnn, 17), (nets.residual, 13), (nets.separable, 18),
                (nets.concat, 17), (nets.gate, 21), (nets.lstm, 17)]
    for build, opset in builders:
        case = target / build.__name__
        case.mkdir(parents=True)
        onnx.save(without_softmax(build(opset, images[seen], labels[seen])), case / "model.onnx")
        np.savez(case / "rows.npz", image=images[-ROWS:], label=labels[-ROWS:])


def answer(target):
    for path in sorted(target.glob("*/*.onnx")):
        if path.stem == "model":
            continue
        onnx.checker.check_model(onnx.load(path), full_check=True)
        image = np.load(path.parent / "rows.npz")["image"]
        found = {}
        for name, level in (("exact", ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
                            ("fused", ort.GraphOptimizationLevel.ORT_ENABLE_ALL)):
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.graph_optimization_level = level
            # Without VNNI its sums of products would saturate at 16 bits.
            options.add_session_config_entry("session.x64quantprecision", "1")
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            (found[name],) = session.run(None, {"image": image})
        np.savez(path.with_suffix(".npz"), **found)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = pathlib.Path(sys.argv[1])
    answer(folder) if sys.argv[2:] == ["answers"] else make(folder)
