"""Networks that an engine on an FPGA can do from end to end, quantised by onnxruntime, one folder a case:
`model.onnx` and `vectors.npz` with rows of noise and what onnxruntime answers. Weights use eight bits in the
cases that are named `wide`, and seven in the others.

usage: fpga_set.py FOLDER
"""

import itertools
import logging
import os
import pathlib
import sys
import warnings

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnxruntime.quantization import (  # noqa: E402
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: E402

ROWS = 64
CALIBRATION_ROWS = 96
CHANCE = np.random.default_rng(11)


class Net:
    """Nodes and weights in the order in which they are written."""

    def __init__(self, *sizes):
        self.sizes, self.nodes, self.weights = list(sizes), [], []

    def store(self, array, kind=np.float32):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=kind), name))
        return name

    def op(self, operator, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"{operator}{len(self.nodes)}", **attributes))
        return name

    def noise(self, *sizes):
        fan = np.prod(sizes[1:]) or 1
        return self.store(CHANCE.normal(0, np.sqrt(2 / fan), sizes))

    def conv(self, value, made, taken, kernel=(3, 3), group=1, relu=True, **attributes):
        weights = self.noise(made, taken // group, *kernel)
        bias = self.store(CHANCE.normal(0, 0.1, made))
        value = self.op("Conv", value, weights, bias, kernel_shape=kernel, group=group, **attributes)
        return self.op("Relu", value) if relu else value

    def dense(self, value, made, taken, relu=False, turned=True):
        weights = self.noise(made, taken) if turned else self.store(CHANCE.normal(0, np.sqrt(2 / taken), (taken, made)))
        value = self.op("Gemm", value, weights, self.store(CHANCE.normal(0, 0.1, made)), transB=int(turned))
        return self.op("Relu", value) if relu else value

    def model(self, output, opset):
        self.nodes.append(helper.make_node("Identity", [output], ["answer"], name="answer"))
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *self.sizes])],
            [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def perceptron():
    net = Net(40)
    value = net.dense(net.dense("image", 30, 40, relu=True, turned=False), 20, 30, relu=True)
    return net.model(net.dense(value, 7, 20), 17)


def product():
    """Products without a bias."""
    net = Net(24)
    value = net.op("MatMul", "image", net.store(CHANCE.normal(0, 0.3, (24, 18))))
    value = net.op("MatMul", net.op("Relu", value), net.store(CHANCE.normal(0, 0.3, (18, 5))))
    return net.model(value, 13)


def strides():
    """Kernels, strides and padding of all kinds."""
    net = Net(3, 13, 11)
    value = net.conv("image", 10, 3, kernel=(3, 5), strides=[2, 1], pads=[1, 2, 0, 2])
    value = net.conv(value, 12, 10, kernel=(1, 1))
    value = net.op("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    value = net.conv(value, 9, 12, kernel=(2, 2), relu=False, auto_pad="SAME_UPPER")
    return net.model(net.dense(net.op("Flatten", value), 6, 9 * 3 * 6), 17)


def depthwise():
    """As MobileNet begins and ends."""
    net = Net(3, 16, 16)
    value = net.conv("image", 8, 3, strides=[2, 2], pads=[1, 1, 1, 1])
    value = net.conv(value, 8, 8, group=8, pads=[1, 1, 1, 1])
    value = net.conv(value, 16, 8, kernel=(1, 1))
    value = net.conv(value, 16, 16, group=16, strides=[2, 2], pads=[0, 0, 1, 1])
    value = net.conv(value, 24, 16, kernel=(1, 1))
    value = net.op("GlobalAveragePool", value)
    return net.model(net.dense(net.op("Flatten", value), 10, 24), 18)


def means():
    net = Net(4, 12, 12)
    value = net.conv("image", 8, 4, pads=[1, 1, 1, 1])
    value = net.op("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = net.conv(value, 8, 8, pads=[1, 1, 1, 1])
    value = net.op("AveragePool", value, kernel_shape=[3, 3], strides=[1, 1])
    return net.model(net.dense(net.op("Flatten", value), 5, 8 * 16), 15)


def mean():
    """The mean of four, which lies between two bytes every other time."""
    net = Net(4, 12, 12)
    value = net.conv("image", 8, 4, pads=[1, 1, 1, 1])
    return net.model(net.op("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2]), 15)


def clipped():
    net = Net(2, 10, 10)
    value = net.conv("image", 6, 2, relu=False)
    value = net.op("Clip", value, net.store(0.0), net.store(0.8))
    value = net.op("Clip", net.conv(value, 6, 6, relu=False), net.store(-0.3), net.store(0.5))
    return net.model(net.dense(net.op("Flatten", value), 4, 6 * 36), 13)


def sound():
    """One dimension of space."""
    net = Net(1, 80)
    value = net.conv("image", 8, 1, kernel=(9,), strides=[2], pads=[4, 4])
    value = net.op("MaxPool", value, kernel_shape=[2], strides=[2])
    value = net.conv(value, 12, 8, kernel=(3,), pads=[1, 1])
    value = net.op("GlobalAveragePool", value)
    return net.model(net.dense(net.op("Flatten", value), 4, 12), 17)


def last():
    """Channels last, as TensorFlow has them."""
    net = Net(9, 9, 3)
    value = net.op("Transpose", "image", perm=[0, 3, 1, 2])
    value = net.conv(value, 8, 3, strides=[2, 2])
    value = net.op("Transpose", net.conv(value, 6, 8, kernel=(1, 1)), perm=[0, 2, 3, 1])
    value = net.op("Reshape", value, net.store([-1, 6 * 16], np.int64))
    return net.model(net.dense(value, 3, 6 * 16), 17)


class Calibration(CalibrationDataReader):
    def __init__(self, rows):
        self.batches = iter([{"image": rows[first:first + 32]} for first in range(0, len(rows), 32)])

    def get_next(self):
        return next(self.batches, None)


def ways():
    """Name and options of every way."""
    types = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}
    for form, data, each, wide in itertools.product(
            (QuantFormat.QDQ, QuantFormat.QOperator), types, (False, True), (False, True)):
        name = "-".join([form.name.lower(), data + "s8", "channel" if each else "tensor"] + ["wide"] * wide)
        yield name, {"quant_format": form, "per_channel": each, "reduce_range": not wide,
                     "activation_type": types[data], "weight_type": QuantType.QInt8,
                     "extra_options": {"ActivationSymmetric": False}}
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        # A ReLU that is no lower bound of bytes.
        yield f"{form.name.lower()}-s8s8-symmetric", {
            "quant_format": form, "per_channel": True, "reduce_range": True, "activation_type": QuantType.QInt8,
            "weight_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}}


def main():
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    target = pathlib.Path(sys.argv[1])
    source, prepared = str(target / "source.onnx"), str(target / "prepared.onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    count = 0
    for make in (perceptron, product, strides, depthwise, mean, means, clipped, sound, last):
        model = make()
        sizes = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
        rows = CHANCE.normal(0, 1, (CALIBRATION_ROWS + ROWS, *sizes)).astype(np.float32)
        seen, held = rows[:CALIBRATION_ROWS], rows[CALIBRATION_ROWS:]
        onnx.save(model, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        for way, quantised in ways():
            case = target / f"{make.__name__}-{way}"
            case.mkdir(parents=True)
            path = str(case / "model.onnx")
            quantize_static(prepared, path, Calibration(seen), **quantised)
            model = onnx.load(path)
            # The quantiser's shapes pin the batch.
            del model.graph.value_info[:]
            onnx.save(model, path)
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            (answer,) = session.run(None, {"image": held})
            np.savez(case / "vectors.npz", **{"in/image": held, "out/answer": answer})
            count += 1
    for rest in (source, prepared):
        pathlib.Path(rest).unlink()
    print(f"{count} cases of onnxruntime {ort.__version__}")


if __name__ == "__main__":
    main()
