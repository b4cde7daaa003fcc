"""Writes the malformed files of bad/, each wrong in one way; bad/README.md says which.

    python make_bad.py      # after make_models.py; needs the same requirements.txt
"""

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    os.makedirs(at("bad"), exist_ok=True)
    with open(at("digits-linear.onnx"), "rb") as good:
        whole = good.read()
    write("truncated.onnx", whole[: len(whole) // 2])
    write("not-onnx.onnx", b"This is a text file that somebody renamed to .onnx.\n")
    onnx.save(pooled_model(), at("bad/unsupported-operator.onnx"))

    vectors = dict(np.load(at("digits-linear.vectors.npz")))
    narrow = vectors["in/image"][:, :63]
    np.savez(at("bad/wrong-shape.vectors.npz"), **(vectors | {"in/image": narrow}))
    silent = {name: rows for name, rows in vectors.items() if not name.startswith("out/")}
    np.savez(at("bad/missing-output.vectors.npz"), **silent)
    wrong = np.roll(vectors["out/probabilities"], 1, axis=1)
    np.savez(at("bad/wrong-answer.vectors.npz"), **(vectors | {"out/probabilities": wrong}))
    with open(at("digits-linear.vectors.npz"), "rb") as good:
        write("truncated.vectors.npz", good.read()[:4000])


def pooled_model() -> onnx.ModelProto:
    """Valid ONNX that onnxruntime serves: its second node is LpPool, which the runtime lacks."""
    weight = np.linspace(-1, 1, 160, dtype=np.float32).reshape(16, 10)
    nodes = [
        helper.make_node("Reshape", ["image", "sizes"], ["square"], name="square"),
        helper.make_node("LpPool", ["square"], ["pooled"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes, "unsupported-operator",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(weight, "weight"),
         numpy_helper.from_array(np.array([-1, 1, 8, 8]), "sizes")])
    model = helper.make_model(
        graph, ir_version=9, producer_name="bellwether make_bad.py", producer_version="1",
        opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model, full_check=True)
    return model


def write(name: str, content: bytes) -> None:
    with open(at(f"bad/{name}"), "wb") as out:
        out.write(content)


def at(name: str) -> str:
    return os.path.join(HERE, name)


if __name__ == "__main__":
    main()
