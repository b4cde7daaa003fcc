"""What onnxruntime has at the two ends of the part of a model that an engine takes: for each case `ends.json`
names the model, its vectors and the two values, `ends.npz` gets them as they are inside, in bytes.

Where a processor has no VNNI, products of unsigned bytes and signed weights are added in 16 bits, which
saturate, and onnxruntime takes signed bytes as unsigned ones between quantise and dequantise. `precise` is
computed without (the option `session.x64quantprecision`, which lacks some operators for signed bytes),
`plain` with; `floats` is what the operators between dequantise and quantise give as the format says, without
any optimisation.

usage: fpga_ends.py FOLDER
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Lacking


def keep_makers(graph, name):
    """Takes out what a value does not depend on."""
    asked, kept = {name}, []
    for node in reversed(graph.node):
        if asked & set(node.output):
            asked.update(node.input)
            kept.insert(0, node)
    del graph.node[:]
    graph.node.extend(kept)


def value(path, port, rows, precise=False, optimised=True):
    """A quantised value inside of a model. It comes out as floats: a value that is read as bytes would not be
    computed as it is otherwise."""
    model = onnx.load(path)
    kind = np.uint8 if port["unsigned"] else np.int8
    scale, zero = np.float32(port["scale"]), kind(port["zero"])
    model.graph.initializer.extend([numpy_helper.from_array(np.array(scale), "probe_scale"),
                                    numpy_helper.from_array(np.array(zero), "probe_zero")])
    model.graph.node.append(
        helper.make_node("DequantizeLinear", [port["value"], "probe_scale", "probe_zero"], ["probe"], name="probe"))
    keep_makers(model.graph, "probe")
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("probe", TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (real,) = session.run(None, rows)
    return (np.rint(real.astype(np.float64) / np.float64(scale)) + np.float64(zero)).astype(kind)


def main():
    for ends in sorted(pathlib.Path(sys.argv[1]).glob("*/ends.json")):
        asked = json.loads(ends.read_text())
        vectors = np.load(asked["vectors"])
        rows = {name[3:]: vectors[name] for name in vectors.files if name.startswith("in/")}
        path, last = asked["model"], asked["output"]
        found = {"input": value(path, asked["input"], rows), "plain": value(path, last, rows),
                 "floats": value(path, last, rows, optimised=False)}
        try:
            found["precise"] = value(path, last, rows, precise=True)
        except Lacking:
            pass
        np.savez(ends.with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
