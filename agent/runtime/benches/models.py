"""Makes the models that `score.rs` times, and is its peer: onnxruntime with one thread.

usage: models.py make FOLDER     NAME.onnx, and NAME.1.npz and NAME.64.npz with inputs
       models.py peer            answers on standard output what standard input asks, a line each:
           load MODEL NPZ        the microseconds that loading took; the outputs go to NPZ + `.out.npz`
           time COUNT            the nanoseconds of COUNT calls, inputs and outputs bound beforehand

Weights are random with fixed seeds; forests and boosted trees learn made-up rows. The size of the
batch varies in every model, as exporters write it.
"""

import pathlib
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCHES = (1, 64)
OPSET = 17
SEED = np.random.default_rng(7)


class Graph:
    """Nodes and weights of a chain."""

    def __init__(self, name, shape, output):
        self.name, self.shape, self.output = name, shape, output
        self.nodes, self.weights, self.value = [], [], "input"

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator, *arrays, outputs=None, **attributes):
        inputs = [self.value, *("" if array is None else self.weight(array) for array in arrays)]
        outputs = outputs or [f"v{len(self.nodes)}"]
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        self.value = outputs[-1]
        return self

    def dense(self, inputs, outputs, activation=None):
        scale = (2 / inputs) ** 0.5
        self.add("Gemm", normal(inputs, outputs) * scale, normal(outputs) * np.float32(0.1))
        return self.add(activation) if activation else self

    def conv(self, inputs, outputs, kernel, stride=1, group=1, activation="Relu"):
        scale = np.float32((2 * group / (inputs * kernel * kernel)) ** 0.5)
        weights = normal(outputs, inputs // group, kernel, kernel) * scale
        pad = kernel // 2
        self.add("Conv", weights, normal(outputs) * np.float32(0.1), kernel_shape=[kernel] * 2,
                 strides=[stride] * 2, pads=[pad] * 4, group=group)
        if activation == "Clip":
            return self.add("Clip", np.float32(0), np.float32(6))
        return self.add(activation)

    def model(self):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, self.name,
            [value("input", TensorProto.FLOAT, ["batch", *self.shape])],
            [value(self.value, TensorProto.FLOAT, ["batch", *self.output])],
            self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model)
        return model


def normal(*shape):
    return SEED.standard_normal(shape).astype(np.float32)


def mlp():
    return Graph("mlp", [64], [10]).dense(64, 128, "Relu").dense(128, 64, "Relu").dense(64, 10).add("Softmax").model()


def autoencoder():
    graph, sizes = Graph("autoencoder", [640], [640]), [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    for inputs, outputs in zip(sizes, sizes[1:]):
        graph.dense(inputs, outputs, "Relu")
    return graph.dense(128, 640).model()


def cnn():
    graph = Graph("cnn", [64], [10]).add("Reshape", np.array([-1, 1, 8, 8]))
    scale = np.float32(1 / 3)
    graph.add("Conv", normal(64, 1, 3, 3) * scale, normal(64) * scale, kernel_shape=[3, 3]).add("Relu")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).add("Flatten")
    return graph.dense(64 * 9, 10).add("Softmax").model()


def mobilenet():
    """MobileNet v1 0.25 at 96 by 96, as MLPerf Tiny's visual wake words."""
    graph = Graph("mobilenet", [3, 96, 96], [2]).conv(3, 8, 3, 2)
    sizes = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), *[(128, 128, 1)] * 5,
             (128, 256, 2), (256, 256, 1)]
    for inputs, outputs, stride in sizes:
        graph.conv(inputs, inputs, 3, stride, inputs).conv(inputs, outputs, 1)
    return graph.add("GlobalAveragePool").add("Flatten").dense(256, 2).add("Softmax").model()


def speech():
    """Depthwise separable convolutions over 49 by 10, as MLPerf Tiny's keyword spotting."""
    graph = Graph("ds-cnn", [1, 49, 10], [12]).conv(1, 64, 3, 2, activation="Clip")
    for _ in range(4):
        graph.conv(64, 64, 3, 1, 64, activation="Clip").conv(64, 64, 1, activation="Clip")
    return graph.add("GlobalAveragePool").add("Flatten").dense(64, 12).add("Softmax").model()


def recurrent(operator, gates):
    """One layer over 49 steps of 40 numbers, and a dense layer on the last state."""
    inputs, hidden = 40, 128
    scale = np.float32(hidden ** -0.5)
    graph = Graph(operator.lower(), [49, inputs], [10]).add("Transpose", perm=[1, 0, 2])
    attributes = {"linear_before_reset": 1} if operator == "GRU" else {}
    graph.add(operator, normal(1, gates * hidden, inputs) * scale, normal(1, gates * hidden, hidden) * scale,
              normal(1, 2 * gates * hidden) * scale, outputs=["", "last"], hidden_size=hidden, **attributes)
    return graph.add("Squeeze", np.array([0])).dense(hidden, 10).add("Softmax").model()


def trees():
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits, make_classification
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    digits, labels = load_digits(return_X_y=True)
    rows, classes = make_classification(4000, 20, n_informative=12, random_state=7)
    digits, rows = digits.astype(np.float32), rows.astype(np.float32)
    sets = {"": OPSET, "ai.onnx.ml": 3}
    for name, learner, x, y in [
        ("forest", RandomForestClassifier(50, random_state=7), digits, labels),
        ("boosting", GradientBoostingClassifier(n_estimators=100, random_state=7), rows, classes),
    ]:
        model = to_onnx(learner.fit(x, y), x[:1], options={"zipmap": False}, target_opset=sets)
        yield name, model, lambda batch, x=x: x[:batch]
    # Trees over histograms: skl2onnx 1.20 cannot write those of scikit-learn 1.9.
    learner = lightgbm.LGBMClassifier(n_estimators=100, random_state=7, verbose=-1).fit(rows, classes)
    model = onnxmltools.convert_lightgbm(learner, initial_types=[("input", FloatTensorType([None, 20]))],
                                         zipmap=False, target_opset=15)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"  # it says 1, and gives all
    yield "hist-boosting", model, lambda batch: rows[:batch]


def quantised(name, model, inputs):
    from onnxruntime import quantization as q
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, made = (f"{folder}/{part}.onnx" for part in ("plain", "ready", "made"))
        onnx.save(model, plain)
        q.quant_pre_process(plain, ready, skip_symbolic_shape=True)

        class Rows(q.CalibrationDataReader):
            def __init__(self):
                self.rows = iter([{"input": inputs(64)}])

            def get_next(self):
                return next(self.rows, None)

        q.quantize_static(ready, made, Rows(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                          activation_type=q.QuantType.QInt8, weight_type=q.QuantType.QInt8)
        yield f"{name}-int8", onnx.load(made), inputs
        if name == "mlp":
            q.quantize_dynamic(ready, made)
            yield f"{name}-dynamic", onnx.load(made), inputs


def models():
    for model in (mlp(), autoencoder(), cnn(), speech(), mobilenet(), recurrent("GRU", 3), recurrent("LSTM", 4)):
        shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim][1:]
        fixed = normal(max(BATCHES), *shape)
        inputs = lambda batch, fixed=fixed: fixed[:batch]  # noqa: E731
        yield model.graph.name, model, inputs
        if model.graph.name in ("mlp", "cnn", "mobilenet"):
            yield from quantised(model.graph.name, model, inputs)
    yield from trees()


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, model, inputs in models():
        onnx.save(model, folder / f"{name}.onnx")
        for batch in BATCHES:
            np.savez(folder / f"{name}.{batch}.npz", **{model.graph.input[0].name: inputs(batch)})


class Peer:
    """A session of onnxruntime with everything bound, so that Python adds one call."""

    def load(self, model, inputs):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        start = time.perf_counter_ns()
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        took = (time.perf_counter_ns() - start) // 1000
        feeds = dict(np.load(inputs))
        names = [output.name for output in self.session.get_outputs()]
        answers = self.session.run(names, feeds)
        np.savez(inputs + ".out.npz", **dict(zip(names, answers)))
        self.kept = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        self.binding = self.session.io_binding()
        for name, value in self.kept.items():
            self.binding.bind_ortvalue_input(name, value)
        for name in names:
            self.binding.bind_output(name)
        return took

    def time(self, count):
        # The extension's own method: `InferenceSession.run_with_iobinding` only looks up and forwards.
        run, binding = self.session._sess.run_with_iobinding, self.binding._iobinding
        start = time.perf_counter_ns()
        for _ in range(count):
            run(binding, None)
        return time.perf_counter_ns() - start


def peer():
    it = Peer()
    for line in sys.stdin:
        word, *rest = line.split()
        print(it.load(*rest) if word == "load" else it.time(int(rest[0])), flush=True)


if __name__ == "__main__":
    peer() if sys.argv[1] == "peer" else make(pathlib.Path(sys.argv[2]))
