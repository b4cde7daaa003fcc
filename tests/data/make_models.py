"""Trains the sample models on the digits set and writes them as ONNX, with golden vectors.

    pip install -r requirements.txt && python make_models.py      # in this folder; a few seconds

Deterministic: one thread, fixed seeds, pinned versions. Every choice of size and regularisation
was made by cross-validation on the training rows; the held-out rows are only counted at the end.

          image [N,64], 0..1
                |
    linear:    Gemm ------------------------------------------------> Softmax -> probabilities [N,10]
    cnn:       Reshape [N,1,8,8] -> Conv 3x3 -> Relu -> MaxPool 2x2
                  -> Flatten -> Gemm -------------------------------> Softmax -> probabilities [N,10]
    cnn-wide:  the cnn with four times the filters: a little surer, four times the work
    cnn-int8:  the cnn, quantised to int8 QDQ by onnxruntime, Softmax included
"""

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import json  # noqa: E402
import logging  # noqa: E402
import pickle  # noqa: E402
import tempfile  # noqa: E402

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnxruntime.quantization import (  # noqa: E402
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402

import make_vectors  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
OPSET, IR_VERSION = 17, 9  # the newest operator set that every runtime we target reads fully
HELD_OUT_ROWS = 360  # a fifth
GOLDEN_ROWS = 16
CALIBRATION_ROWS = 500
FILTERS, FILTERS_WIDE, PATCH = 64, 256, 3
WHITEN_FLOOR = 0.1  # added to each eigenvalue of the patch covariance
THRESHOLD = 1.0  # a filter answers only above this, in whitened units
PATCHES_SAMPLED = 20_000
FLAT_PATCH = 0.05  # patches with less contrast than this teach nothing
C_LINEAR, C_CNN = 1.0, 0.03


def main() -> None:
    images, labels, training, held_out = split()
    np.savez(at("digits.npz"), images=images, labels=labels, held_out=held_out)
    scaled = (images / 16).astype(np.float32)
    np.savez(at("digits-input.npz"), image=scaled[held_out[:GOLDEN_ROWS]])

    write_linear(scaled[training], labels[training])
    write_cnn("digits-cnn", FILTERS, scaled[training], labels[training])
    write_cnn("digits-cnn-wide", FILTERS_WIDE, scaled[training], labels[training])
    quantise(scaled[training])

    for name in ("digits-linear", "digits-cnn", "digits-cnn-wide", "digits-cnn-int8"):
        right = accuracy(at(f"{name}.onnx"), scaled[held_out], labels[held_out])
        make_vectors.make(at(f"{name}.onnx"), at("digits-input.npz"), at(f"{name}.vectors.npz"),
                          GOLDEN_ROWS, rtol=1e-3, atol=1e-4)
        size = os.path.getsize(at(f"{name}.onnx"))
        print(json.dumps({"model": name, "held_out_accuracy": round(right, 4), "bytes": size}))


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The set as scikit-learn ships it, and a stratified split of its row numbers."""
    pixels, digits = load_digits(return_X_y=True)
    training, held_out = train_test_split(
        np.arange(len(digits)), test_size=HELD_OUT_ROWS, random_state=0, stratify=digits)
    return (pixels.astype(np.uint8), digits.astype(np.uint8),
            training, held_out.astype(np.uint16))


def write_linear(rows: np.ndarray, digits: np.ndarray) -> None:
    """Multinomial logistic regression on the 64 pixels."""
    model = LogisticRegression(C=C_LINEAR, max_iter=2000).fit(rows, digits)
    nodes = [
        helper.make_node("Gemm", ["image", "weight", "bias"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    save("digits-linear", nodes, {"weight": model.coef_.T, "bias": model.intercept_})
    with open(at("digits.pkl"), "wb") as out:
        pickle.dump(model, out, protocol=5)


def write_cnn(name: str, filters: int, rows: np.ndarray, digits: np.ndarray) -> None:
    """One convolution learned without labels (Coates & Ng 2011), one dense layer learned with.

    Centroids of whitened 3x3 patches become filters; whitening and mean fold into their weights
    and bias, so that the network needs no operator beyond Conv.
    """
    kernels, bias = learn_filters(rows, filters)
    features = pooled(rows, kernels, bias)
    scale = features.std()
    model = LogisticRegression(C=C_CNN, max_iter=2000).fit(features / scale, digits)
    nodes = [
        helper.make_node("Reshape", ["image", "picture"], ["pixels"], name="reshape"),
        helper.make_node("Conv", ["pixels", "kernels", "kernels_bias"], ["edges"], name="conv",
                         kernel_shape=[PATCH, PATCH], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["edges"], ["active"], name="relu"),
        helper.make_node("MaxPool", ["active"], ["pooled"], name="pool",
                         kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["features"], name="flatten", axis=1),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    save(name, nodes, {
        "picture": np.array([-1, 1, 8, 8], dtype=np.int64),
        "kernels": kernels[:, None],
        "kernels_bias": bias,
        "weight": model.coef_.T / scale,
        "bias": model.intercept_,
    })


def learn_filters(rows: np.ndarray, filters: int) -> tuple[np.ndarray, np.ndarray]:
    """Filters [filters, PATCH, PATCH] and their bias [filters]."""
    chance = np.random.RandomState(0)
    patches = windows(rows).reshape(-1, PATCH * PATCH).astype(np.float64)
    patches = patches[chance.choice(len(patches), PATCHES_SAMPLED, replace=False)]
    patches = patches[patches.std(axis=1) > FLAT_PATCH]
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    whiten = vectors @ np.diag(1 / np.sqrt(values + WHITEN_FLOOR)) @ vectors.T
    found = KMeans(filters, n_init=1, random_state=0, max_iter=100).fit((patches - mean) @ whiten)
    centres = found.cluster_centers_
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    kernels = centres @ whiten
    return kernels.reshape(filters, PATCH, PATCH), -(kernels @ mean) - THRESHOLD


def windows(rows: np.ndarray) -> np.ndarray:
    """Every padded 3x3 neighbourhood: [N, 8, 8, 3, 3]."""
    padded = np.pad(rows.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))


def pooled(rows: np.ndarray, kernels: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """What Conv, Relu, MaxPool and Flatten will compute: [N, filters * 16]."""
    answers = np.einsum("nhwab,fab->nfhw", windows(rows), kernels, optimize=True)
    active = np.maximum(answers + bias[None, :, None, None], 0)
    blocks = active.reshape(len(rows), len(kernels), 4, 2, 4, 2).max(axis=(3, 5))
    return blocks.reshape(len(rows), -1)


def quantise(rows: np.ndarray) -> None:
    """The CNN in int8 with quantise-dequantise pairs around every operator, Softmax too."""
    class Calibration(CalibrationDataReader):
        def __init__(self) -> None:
            starts = range(0, CALIBRATION_ROWS, 50)
            self.batches = iter([{"image": rows[s:s + 50]} for s in starts])

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    logging.getLogger().setLevel(logging.ERROR)
    out = at("digits-cnn-int8.onnx")
    with tempfile.TemporaryDirectory() as scratch:
        raw = os.path.join(scratch, "raw.onnx")
        quantize_static(at("digits-cnn.onnx"), raw, Calibration(), quant_format=QuantFormat.QDQ,
                        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
        model = onnx.load(raw)
    # The quantiser leaves shapes of inner tensors that pin the batch; a runtime infers them.
    del model.graph.value_info[:]
    model.graph.name = "digits-cnn-int8"
    model.producer_name, model.producer_version = "bellwether make_models.py", "1"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)


def save(name: str, nodes: list, constants: dict[str, np.ndarray]) -> None:
    """One input `image` [N,64], one output `probabilities` [N,10]; floats are stored as float32."""
    stored = [
        numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), k)
        for k, v in constants.items()
    ]
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="bellwether make_models.py", producer_version="1")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, at(f"{name}.onnx"))


def accuracy(model: str, rows: np.ndarray, digits: np.ndarray) -> float:
    """Share of `rows` that onnxruntime names right."""
    answer = make_vectors.session(model).run(["probabilities"], {"image": rows})[0]
    return float((answer.argmax(axis=1) == digits).mean())


def at(name: str) -> str:
    return os.path.join(HERE, name)


if __name__ == "__main__":
    main()
