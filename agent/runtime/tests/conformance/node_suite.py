"""Writes ONNX's own node suite as one folder a case: `model.onnx` and `vectors.npz`.

A device's model has inputs that callers send and weights that are stored, so all inputs of a case but
the first are stored in it, as an exporter would. Of several data sets the first is taken.

usage: node_suite.py FOLDER
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

# What a device's tensors may be (protocol/src/manifest.rs).
TYPES = {np.dtype(name) for name in "bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float32 float64".split()}


def default_opset(model):
    return max((i.version for i in model.opset_import if i.domain in ("", "ai.onnx")), default=0)


def as_array(value):
    """A data set's value: odd types come as protobuf, scalars as numbers."""
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    return np.ascontiguousarray(value).reshape(np.shape(value))


def freeze(graph, feeds):
    """Stores all inputs but the first; the name of that."""
    first, *others = list(graph.input)
    for value in others:
        fed = feeds[value.name]
        if not isinstance(fed, onnx.TensorProto):
            fed = numpy_helper.from_array(np.asarray(fed), value.name)
        fed.name = value.name
        graph.initializer.append(fed)
        graph.input.remove(value)
    return first.name


def write(case, folder):
    model = case.model
    graph = model.graph
    inputs, outputs = case.data_sets[0]
    arrays = {}
    # Sequences, optionals and maps are no tensors: the model says so by itself.
    if all(value.type.HasField("tensor_type") for value in [*graph.input, *graph.output]):
        feeds = dict(zip([value.name for value in graph.input], inputs, strict=True))
        if feeds:
            first = freeze(graph, feeds)
            arrays[f"in/{first}"] = as_array(feeds[first])
        answers = zip(graph.output, outputs, strict=True)
        arrays |= {f"out/{value.name}": as_array(array) for value, array in answers}
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    if arrays and all(array.dtype in TYPES for array in arrays.values()):
        np.savez(folder / "vectors.npz", **arrays)
    (folder / "case.txt").write_text(f"{default_opset(model)} {case.rtol} {case.atol}\n")


def main():
    warnings.simplefilter("ignore")
    target = pathlib.Path(sys.argv[1])
    cases = load_model_tests(kind="node")
    for case in cases:
        write(case, target / case.name)
    print(f"{len(cases)} cases of onnx {onnx.__version__}")


if __name__ == "__main__":
    main()
