"""Small models trained on scikit-learn's digits, quantised by onnxruntime in every way that it offers, one
folder a case: `model.onnx` and `vectors.npz` with 500 rows and what onnxruntime answers.

Bytes without a sign are only paired with weights of seven bits, or with weights without a sign: on
processors without VNNI onnxruntime adds pairs of other products in 16 bits, which saturate.

usage: quantised_set.py FOLDER
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
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402

ROWS = 500
CALIBRATION_ROWS = 200
CHANCE = np.random.default_rng(7)


class Net:
    """Nodes and weights in the order in which they are written."""

    def __init__(self):
        self.nodes, self.weights, self.count = [], [], 0

    def store(self, array, kind=np.float32):
        self.count += 1
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype=kind), f"w{self.count}"))
        return f"w{self.count}"

    def op(self, operator, *inputs, **attributes):
        self.count += 1
        name = f"v{self.count}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"{operator}{self.count}", **attributes))
        return name

    def conv(self, value, made, taken, kernel=3, group=1, **attributes):
        scale = np.sqrt(2 / (taken // group * kernel * kernel))
        weight = CHANCE.normal(0, scale, (made, taken // group, kernel, kernel))
        bias = CHANCE.normal(0, 0.1, made)
        pad = attributes.pop("pads", [kernel // 2] * 4)
        return self.op("Conv", value, self.store(weight), self.store(bias), kernel_shape=[kernel, kernel], pads=pad,
                       group=group, **attributes)

    def model(self, output, opset, end="Softmax"):
        """`image` [batch, 64] to `probabilities` [batch, 10], or to whatever else comes last."""
        if end:
            output = self.op(end, output, axis=1)
        self.nodes.append(helper.make_node("Identity", [output], ["answer"], name="answer"))
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
            [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 10])],
            self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def trained_head(net, features, opset, images, labels, end="Softmax"):
    """A dense layer on `features`, trained on what the layers before it make of the images."""
    probe = Net()
    probe.nodes, probe.weights = list(net.nodes), list(net.weights)
    graph = helper.make_graph(
        probe.nodes, "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info(features, TensorProto.FLOAT, None)], probe.weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    (seen,) = session(made).run(None, {"image": images})
    scale = seen.std() or 1.0
    # To the end: training that is cut short ends elsewhere on each processor.
    head = LogisticRegression(C=1.0, max_iter=10_000, tol=1e-6).fit(seen / scale, labels)
    weight, bias = net.store(head.coef_ / scale), net.store(head.intercept_)
    logits = net.op("Gemm", features, weight, bias, transB=1)
    return net.model(logits, opset, end)


def linear(opset, images, labels):
    return trained_head(Net(), "image", opset, images, labels)


def mlp(opset, images, labels):
    found = MLPClassifier((32, 24), max_iter=60, random_state=0).fit(images, labels)
    net, value = Net(), "image"
    for index, (weight, bias) in enumerate(zip(found.coefs_, found.intercepts_)):
        value = net.op("Add", net.op("MatMul", value, net.store(weight)), net.store(bias))
        if index < 2:
            value = net.op("Relu", value)
    return net.model(value, opset)


def picture(net):
    return net.op("Reshape", "image", net.store([-1, 1, 8, 8], np.int64))


def cnn(opset, images, labels):
    net = Net()
    value = net.op("Relu", net.conv(picture(net), 12, 1))
    value = net.op("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    value = net.op("Clip", net.conv(value, 16, 12), net.store(0.0), net.store(6.0))
    return trained_head(net, net.op("Flatten", value), opset, images, labels)


def residual(opset, images, labels):
    net = Net()
    first = net.op("Relu", net.conv(picture(net), 8, 1))
    second = net.op("Add", net.conv(net.op("Relu", net.conv(first, 8, 8)), 8, 8), first)
    value = net.op("AveragePool", net.op("Relu", second), kernel_shape=[2, 2], strides=[2, 2])
    return trained_head(net, net.op("Flatten", value), opset, images, labels)


def separable(opset, images, labels):
    net = Net()
    value = net.op("HardSwish", net.conv(picture(net), 16, 1, strides=[2, 2]))
    value = net.op("Relu", net.conv(value, 16, 16, group=16))
    value = net.op("Relu", net.conv(value, 64, 16, kernel=1))
    value = net.op("Relu", net.conv(value, 64, 64, group=64, strides=[2, 2]))
    return trained_head(net, net.op("Flatten", value), opset, images, labels)


def concat(opset, images, labels):
    net = Net()
    image = picture(net)
    one = net.op("Sigmoid", net.conv(image, 8, 1))
    two = net.op("LeakyRelu", net.conv(image, 8, 1, kernel=1), alpha=0.1)
    value = net.conv(net.op("Concat", one, two, axis=1), 48, 16)
    value = net.op("GlobalAveragePool", net.op("Relu", value))
    return trained_head(net, net.op("Flatten", value), opset, images, labels)


def gate(opset, images, labels):
    """Channels weighed by their mean, as squeeze-and-excitation does."""
    net = Net()
    value = net.op("Relu", net.conv(picture(net), 24, 1))
    mean = net.op("GlobalAveragePool", value)
    weight = net.op("Sigmoid", net.conv(net.op("Relu", net.conv(mean, 8, 24, kernel=1)), 24, 8, kernel=1))
    value = net.op("Mul", value, weight)
    value = net.op("Tanh", net.conv(value, 24, 24, strides=[2, 2]))
    return trained_head(net, net.op("Flatten", value), opset, images, labels)


def lstm(opset, images, labels):
    """Rows of the picture, one after another."""
    net, hidden = Net(), 24
    steps = net.op("Transpose", net.op("Reshape", "image", net.store([-1, 8, 8], np.int64)), perm=[1, 0, 2])
    weights = [CHANCE.normal(0, 0.4, (1, 4 * hidden, size)) for size in (8, hidden)]
    bias = CHANCE.normal(0, 0.2, (1, 8 * hidden))
    sequence = net.op("LSTM", steps, *map(net.store, weights), net.store(bias), hidden_size=hidden)
    flat = net.op("Transpose", net.op("Squeeze", sequence, net.store([1], np.int64)), perm=[1, 0, 2])
    flat = net.op("Flatten", flat)
    return trained_head(net, flat, opset, images, labels)


class Calibration(CalibrationDataReader):
    def __init__(self, images):
        self.batches = iter([{"image": images[first:first + 50]} for first in range(0, CALIBRATION_ROWS, 50)])

    def get_next(self):
        return next(self.batches, None)


def ways():
    """Name and quantiser of every way; those that onnxruntime computes exactly."""
    types = {"s8": QuantType.QInt8, "u8": QuantType.QUInt8}
    for form, data, weight, each, seven in itertools.product(
            (QuantFormat.QDQ, QuantFormat.QOperator), types, types, (False, True), (False, True)):
        # Its kernels for signed weights take bytes of any kind as unsigned ones, and saturate.
        if weight == "s8" and not seven or weight == "u8" and (seven or each or data == "s8"):
            continue
        name = "-".join([form.name.lower(), data + weight, "channel" if each else "tensor"])
        yield name, lambda source, target, images, form=form, data=data, weight=weight, each=each, seven=seven: (
            quantize_static(source, target, Calibration(images), quant_format=form, per_channel=each,
                            reduce_range=seven, activation_type=types[data], weight_type=types[weight],
                            extra_options={"ActivationSymmetric": False}))
    for weight, each in (("u8", False), ("s8", False), ("s8", True)):
        name = f"dynamic-{weight}-{'channel' if each else 'tensor'}"
        yield name, lambda source, target, images, weight=weight, each=each: quantize_dynamic(
            source, target, weight_type=types[weight], per_channel=each, reduce_range=weight == "s8")


def write(folder, name, path, images):
    model = onnx.load(path)
    # The quantiser's shapes pin the batch.
    del model.graph.value_info[:]
    case = folder / name
    case.mkdir(parents=True)
    onnx.save(model, case / "model.onnx")
    (answer,) = session(str(case / "model.onnx")).run(None, {"image": images})
    np.savez(case / "vectors.npz", **{"in/image": images, "out/answer": answer})
    return answer.argmax(axis=1)


def main():
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    target = pathlib.Path(sys.argv[1])
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    seen, held = slice(0, len(images) - ROWS), slice(len(images) - ROWS, None)
    nets = [(linear, 13), (mlp, 15), (cnn, 17), (residual, 13), (separable, 18), (concat, 17), (gate, 21), (lstm, 17)]
    scratch = target / "scratch.onnx"
    right = {}
    for make, opset in nets:
        net = make.__name__
        model = make(opset, images[seen], labels[seen])
        onnx.save(model, scratch)
        prepared = str(target / "prepared.onnx")
        quant_pre_process(str(scratch), prepared, skip_symbolic_shape=True)
        for way, quantise in ways():
            if make is lstm and not way.startswith("dynamic"):
                continue
            out = str(target / "quantised.onnx")
            quantise(prepared, out, images[seen])
            found = write(target, f"{net}-{way}", out, images[held])
            right[f"{net}-{way}"] = (found == labels[held]).mean()
    for rest in ("scratch.onnx", "prepared.onnx", "quantised.onnx"):
        (target / rest).unlink()
    worst = min(right, key=right.get)
    print(f"{len(right)} cases of onnxruntime {ort.__version__}; least right: {worst} {right[worst]:.3f}")


if __name__ == "__main__":
    main()
