"""Writes models of one operator of `ai.onnx.ml` each, with every attribute in turn, as one folder a case:
`model.onnx` and `vectors.npz` with onnxruntime's answers. What onnxruntime does not run is no case.

usage: classical_ops.py FOLDER
"""

import itertools
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)
TYPES = {"float": np.float32, "double": np.float64, "int64": np.int64, "int32": np.int32}
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


class Cases:
    def __init__(self, folder):
        self.folder, self.count, self.left_out = folder, 0, []

    def write(self, name, op_type, inputs, outputs, version=3, stored=(), **attributes):
        """`inputs` are arrays by name, `outputs` element types with numbers of dimensions."""
        node = helper.make_node(
            op_type,
            [*inputs, *(tensor.name for tensor in stored)],
            [f"y{place}" for place in range(len(outputs))],
            domain="ai.onnx.ml",
            **attributes,
        )
        graph = helper.make_graph(
            [node],
            name,
            [
                helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(value.dtype), [None, *value.shape[1:]])
                for key, value in inputs.items()
            ],
            [helper.make_tensor_value_info(f"y{place}", kind, [None] * rank) for place, (kind, rank) in enumerate(outputs)],
            list(stored),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)],
            ir_version=8,
        )
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            answers = session.run(None, inputs)
        except Exception as why:
            self.left_out.append(f"{name}: {str(why).splitlines()[0][:160]}")
            return
        target = self.folder / name
        target.mkdir(parents=True)
        onnx.save(model, target / "model.onnx")
        arrays = {f"in/{key}": value for key, value in inputs.items()}
        arrays |= {f"out/y{place}": answer for place, answer in enumerate(answers)}
        np.savez(target / "vectors.npz", **arrays)
        self.count += 1


def numbers(dtype, rows=24, width=4, seed=0):
    """Small numbers of which many are equal, and equal to thresholds."""
    random = np.random.default_rng(seed)
    return (random.integers(-4, 5, (rows, width)) / (1 if np.issubdtype(dtype, np.integer) else 2)).astype(dtype)


def forest(modes, targets, prefix, seed=0, trees=5, depth=4, votes="one", gaps=False, ids=None, positive=False):
    """Attributes of random trees; `votes` of a leaf are `one`, `all`, `some` or `few`."""
    random = np.random.default_rng(seed)
    lists = {f"nodes_{name}": [] for name in "treeids nodeids featureids values modes truenodeids falsenodeids".split()}
    leaf = {f"{prefix}_{name}": [] for name in "ids nodeids treeids weights".split()}
    missing = []
    for tree in range(trees):
        waiting, total = [(0, 0)], 1
        while waiting:
            node, level = waiting.pop(0)
            is_leaf = level == depth or (level > 1 and random.random() < 0.2) or (tree == 0 and depth == 0)
            lists["nodes_treeids"].append(tree)
            lists["nodes_nodeids"].append(node)
            lists["nodes_featureids"].append(0 if is_leaf else int(random.integers(4)))
            lists["nodes_values"].append(0.0 if is_leaf else float(random.integers(-3, 4)) / 2)
            lists["nodes_modes"].append("LEAF" if is_leaf else modes[int(random.integers(len(modes)))])
            lists["nodes_truenodeids"].append(0 if is_leaf else total)
            lists["nodes_falsenodeids"].append(0 if is_leaf else total + 1)
            missing.append(int(random.integers(2)))
            if not is_leaf:
                waiting += [(total, level + 1), (total + 1, level + 1)]
                total += 2
                continue
            allowed = list(range(targets)) if ids is None else ids
            chosen = {"one": [allowed[(tree + node) % len(allowed)]], "all": allowed}.get(votes)
            if chosen is None:
                chosen = [target for target in allowed if random.random() < (0.5 if votes == "some" else 0.1)]
            for target in chosen:
                weight = float(np.float32(random.normal()))
                values = (target, node, tree, abs(weight) / trees if positive else weight)
                for name, value in zip(leaf, values, strict=True):
                    leaf[name].append(value)
    if gaps:
        lists["nodes_missing_value_tracks_true"] = missing
    return lists | leaf


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
SCORES = [(TensorProto.FLOAT, 2)]
LABELS = [(TensorProto.INT64, 1), *SCORES]


def tree_classifiers(cases):
    op = "TreeEnsembleClassifier"
    for transform, classes, votes in itertools.product(TRANSFORMS, (3, 5), ("one", "all", "some", "few")):
        for base in (0, classes):
            for positive in (False, True):
                trees = forest(["BRANCH_LEQ"], classes, "class", seed=classes, votes=votes, positive=positive)
                values = {"base_values": [0.25, -0.5, 0.125, 1.0, -1.0][:base]} if base else {}
                name = f"classes-{classes}-{votes}-{transform.lower()}-base{base}-{'plus' if positive else 'mixed'}"
                labels = {"classlabels_int64s": [7, 3, 11, 2, 5][:classes]}
                cases.write(name, op, {"x": numbers(np.float32)}, LABELS, post_transform=transform, **trees, **values, **labels)
    # What onnxruntime computes otherwise than the specification says is refused, and no case.
    for transform, chosen, base, positive in itertools.product(TRANSFORMS, (0, 1), (0, 1), (False, True)):
        if (chosen, base) == (1, 1) or (chosen, transform) == (0, "PROBIT"):
            continue
        trees = forest(["BRANCH_LEQ"], 2, "class", ids=[chosen], positive=positive)
        values = {"base_values": [0.25, -0.5][:base]} if base else {}
        name = f"binary-{chosen}-{transform.lower()}-base{base}-{'plus' if positive else 'mixed'}"
        labels = {"classlabels_int64s": [4, 9]}
        cases.write(name, op, {"x": numbers(np.float32)}, LABELS, post_transform=transform, **trees, **values, **labels)
    for kind, dtype in TYPES.items():
        trees = forest(MODES[:4], 3, "class", votes="all")
        cases.write(f"classes-{kind}", op, {"x": numbers(dtype)}, LABELS, **trees, classlabels_int64s=[0, 1, 2])


def tree_regressors(cases):
    op = "TreeEnsembleRegressor"
    for fold, transform, targets in itertools.product(("SUM", "AVERAGE", "MIN", "MAX"), TRANSFORMS, (1, 3)):
        for base, votes in itertools.product({0, targets}, ("one", "all", "some", "few")):
            trees = forest(["BRANCH_LEQ"], targets, "target", votes=votes if targets > 1 else "one")
            values = {"base_values": [0.25, -0.5, 0.125][:base]} if base else {}
            name = f"targets-{targets}-{votes}-{fold.lower()}-{transform.lower()}-base{base}"
            options = {"aggregate_function": fold, "post_transform": transform, "n_targets": targets}
            cases.write(name, op, {"x": numbers(np.float32)}, SCORES, **options, **trees, **values)
    for mode, gaps, seed in itertools.product([*MODES, "mixed", "ordered"], (False, True), (0, 1)):
        modes = {"mixed": MODES, "ordered": MODES[:4]}.get(mode, [mode])
        trees = forest(modes, 1, "target", seed=seed, gaps=gaps)
        x = numbers(np.float32, seed=seed)
        cases.write(f"mode-{mode.lower()}-{gaps}-{seed}", op, {"x": x}, SCORES, n_targets=1, **trees)
        x[::3, 1] = np.nan
        x[1::4, 2] = np.inf
        x[2::4, 3] = -np.inf
        cases.write(f"mode-{mode.lower()}-{gaps}-{seed}-odd", op, {"x": x}, SCORES, n_targets=1, **trees)
        cases.write(f"mode-{mode.lower()}-{gaps}-{seed}-double", op, {"x": x.astype(np.float64)}, SCORES, n_targets=1, **trees)
    for kind, dtype in TYPES.items():
        trees = forest(MODES[:4], 2, "target", votes="all")
        cases.write(f"targets-{kind}", op, {"x": numbers(dtype)}, SCORES, n_targets=2, **trees)
    trees = forest(["BRANCH_LEQ"], 2, "target", votes="all")
    exact = {f"{key}_as_tensor": trees.pop(key) for key in ("nodes_values", "target_weights")}
    exact = {key: numpy_helper.from_array(np.array(value, np.float64) / 3, key) for key, value in exact.items()}
    cases.write("targets-exact", op, {"x": numbers(np.float64)}, SCORES, n_targets=2, **trees, **exact)
    leaf = forest(["BRANCH_LEQ"], 1, "target", depth=0)
    cases.write("only-leaves", op, {"x": numbers(np.float32)}, SCORES, n_targets=1, **leaf)
    wide = forest(["BRANCH_LEQ"], 1, "target", trees=40, depth=9)
    cases.write("many-trees", op, {"x": numbers(np.float32, 130)}, SCORES, n_targets=1, **wide)


def flat_trees(cases):
    """TreeEnsemble of operator set 5."""
    random = np.random.default_rng(3)
    for dtype, mode, fold, transform in itertools.product((np.float32, np.float64), (*range(7), 9), range(4), (0, 3)):
        count = 7
        modes = [mode if mode < 9 else int(random.integers(6)) for _ in range(count)]
        tensor = lambda name, values, kind: numpy_helper.from_array(np.array(values, kind), name)
        sets = [value for _ in range(count) for value in (0.5, -1.0, 2.0, np.nan)]
        options = {"membership_values": tensor("membership_values", sets, dtype)} if mode == 6 else {}
        # Two full trees of three branches, and one that is only a leaf.
        attributes = {
            "tree_roots": [0, 3, 6],
            "nodes_featureids": random.integers(0, 4, count).tolist(),
            "nodes_splits": tensor("nodes_splits", random.integers(-2, 3, count) / 2, dtype),
            "nodes_modes": tensor("nodes_modes", modes, np.uint8),
            "nodes_truenodeids": [1, 0, 2, 4, 4, 6, 8],
            "nodes_trueleafs": [0, 1, 1, 0, 1, 1, 1],
            "nodes_falsenodeids": [2, 1, 3, 5, 5, 7, 8],
            "nodes_falseleafs": [0, 1, 1, 0, 1, 1, 1],
            "leaf_targetids": [0, 1, 0, 1, 0, 1, 0, 1, 0],
            "leaf_weights": tensor("leaf_weights", random.normal(size=9), dtype),
        }
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        x = numbers(dtype)
        x[::5, 1] = np.nan
        name = f"flat-{np.dtype(dtype).name}-{mode}-{fold}-{transform}"
        options |= {"aggregate_function": fold, "post_transform": transform, "n_targets": 2}
        cases.write(name, "TreeEnsemble", {"x": x}, [(kind, 2)], 5, **attributes, **options)


def weighted_sums(cases):
    random = np.random.default_rng(1)
    floats = lambda count: random.normal(size=count).astype(np.float32).tolist()
    for transform, (labels, sums), kind in itertools.product(
        TRANSFORMS, ((2, 1), (2, 2), (3, 3), (6, 6), (1, 1), (3, 1)), TYPES
    ):
        if (sums, labels, transform) == (1, 2, "PROBIT"):
            continue
        name = f"linear-classes-{labels}-{sums}-{transform.lower()}-{kind}"
        options = {"classlabels_ints": [5, 2, 9, 4, 1, 7][:labels], "post_transform": transform}
        values = {"coefficients": floats(4 * sums), "intercepts": floats(sums)}
        cases.write(name, "LinearClassifier", {"x": numbers(TYPES[kind])}, LABELS, 1, **options, **values)
    for transform, targets, has_intercepts in itertools.product(TRANSFORMS, (1, 2, 5), (False, True)):
        name = f"linear-targets-{targets}-{transform.lower()}-{has_intercepts}"
        values = {"coefficients": floats(4 * targets)} | ({"intercepts": floats(targets)} if has_intercepts else {})
        options = {"targets": targets, "post_transform": transform}
        cases.write(name, "LinearRegressor", {"x": numbers(np.float32)}, SCORES, 1, **options, **values)


def support_vectors(cases):
    random = np.random.default_rng(2)
    floats = lambda count: random.normal(size=count).astype(np.float32).tolist()
    for kernel, transform, classes, sure in itertools.product(
        ("LINEAR", "POLY", "RBF", "SIGMOID"), TRANSFORMS, (2, 3, 5), (False, True)
    ):
        if (transform, classes, sure) == ("PROBIT", 2, False):
            continue
        sizes = [1 + place for place in range(classes)]
        count, pairs = sum(sizes), classes * (classes - 1) // 2
        values = {
            "support_vectors": floats(4 * count),
            "coefficients": floats((classes - 1) * count),
            "rho": floats(pairs),
            "vectors_per_class": sizes,
            "kernel_params": [0.3, 0.2, 3.0],
        }
        if sure:
            values |= {"prob_a": [-abs(value) for value in floats(pairs)], "prob_b": floats(pairs)}
        options = {"kernel_type": kernel, "post_transform": transform, "classlabels_ints": [5, 2, 9, 4, 1][:classes]}
        name = f"svm-classes-{classes}-{kernel.lower()}-{transform.lower()}-{'sure' if sure else 'votes'}"
        cases.write(name, "SVMClassifier", {"x": numbers(np.float32)}, LABELS, 1, **options, **values)
    for transform, classes, positive in itertools.product(TRANSFORMS, (2, 3), (False, True)):
        values = {"coefficients": np.abs(floats(4 * classes)).tolist() if positive else floats(4 * classes), "rho": [0.1]}
        options = {"post_transform": transform, "classlabels_ints": [5, 2, 9][:classes], "kernel_params": [0.0, 0.0, 0.0]}
        name = f"svm-linear-{classes}-{transform.lower()}-{positive}"
        cases.write(name, "SVMClassifier", {"x": numbers(np.float32)}, LABELS, 1, **options, **values)
    for kernel, one_class, degree in itertools.product(("LINEAR", "POLY", "RBF", "SIGMOID"), (0, 1), (2.0, 3.0, 4.0)):
        values = {"support_vectors": floats(28), "coefficients": floats(7), "rho": [0.4], "n_supports": 7}
        options = {"kernel_type": kernel, "kernel_params": [0.3, 0.2, degree], "one_class": one_class}
        name = f"svm-target-{kernel.lower()}-{one_class}-{degree:.0f}"
        cases.write(name, "SVMRegressor", {"x": numbers(np.float32)}, SCORES, 1, **options, **values)
    values = {"coefficients": floats(4), "rho": [0.4], "n_supports": 0, "kernel_params": [0.0, 0.0, 0.0]}
    cases.write("svm-target-plain", "SVMRegressor", {"x": numbers(np.float32)}, SCORES, 1, **values)


def each_number(cases):
    for kind, dtype in TYPES.items():
        x, code = numbers(dtype), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        x[3] = 0
        for width in (1, 4):
            values = {"offset": [0.5, -1.0, 2.0, 0.25][:width], "scale": [2.0, 0.5, -1.0, 3.0][:width]}
            cases.write(f"scaler-{kind}-{width}", "Scaler", {"x": x}, SCORES, 1, **values)
        for norm in ("MAX", "L1", "L2"):
            cases.write(f"normalizer-{kind}-{norm.lower()}", "Normalizer", {"x": x}, SCORES, 1, norm=norm)
        for threshold in (0.0, 0.5, -1.0):
            cases.write(f"binarizer-{kind}-{threshold}", "Binarizer", {"x": x}, [(code, 2)], 1, threshold=threshold)
        cases.write(f"onehot-{kind}", "OneHotEncoder", {"x": x}, [(TensorProto.FLOAT, 3)], 1, cats_int64s=[0, 3, -1, 2], zeros=1)
        cases.write(f"vectorizer-{kind}", "FeatureVectorizer", {"x": x, "z": x[:, :2]}, SCORES, 1, inputdimensions=[4, 2])
        cases.write(f"vectorizer-{kind}-uneven", "FeatureVectorizer", {"x": x, "z": x[:, :2]}, SCORES, 1, inputdimensions=[3, 5])
        places = numpy_helper.from_array(np.array([2, 0, 2], np.int64), "places")
        cases.write(f"extractor-{kind}", "ArrayFeatureExtractor", {"x": x}, [(code, 2)], 1, [places])
        cube = np.stack([x, x + 1], 1)
        cases.write(f"extractor-{kind}-cube", "ArrayFeatureExtractor", {"x": cube}, [(code, 3)], 1, [places])
    x = numbers(np.float32)
    x[::4, 1] = np.nan
    for missing, values in itertools.product((0.0, 1.5, float("nan")), ([7.0], [1.0, 2.0, 3.0, 4.0])):
        name = f"imputer-{missing}-{len(values)}"
        cases.write(name, "Imputer", {"x": x}, SCORES, 1, replaced_value_float=missing, imputed_value_floats=values)
    whole = numbers(np.int64)
    for values in ([7], [1, 2, 3, 4]):
        options = {"replaced_value_int64": 2, "imputed_value_int64s": values}
        cases.write(f"imputer-int64-{len(values)}", "Imputer", {"x": whole}, [(TensorProto.INT64, 2)], 1, **options)


def label_encoders(cases):
    whole, real = numbers(np.int64), numbers(np.float32)
    real[::4, 1] = np.nan
    keys = {"int64s": [0, 2, -3, 2], "floats": [0.5, float("nan"), -1.0, 0.0]}
    values = {"int64s": [10, 20, 30, 40], "floats": [0.5, 1.5, 2.5, 3.5]}
    for version, of, to, default in itertools.product((2, 4), keys, values, (False, True)):
        options = {f"keys_{of}": keys[of], f"values_{to}": values[to]}
        if default:
            options |= {"default_int64": 99} if to == "int64s" else {"default_float": 9.5}
        kind = TensorProto.INT64 if to == "int64s" else TensorProto.FLOAT
        x = whole if of == "int64s" else real
        cases.write(f"labels-{version}-{of}-{to}-{default}", "LabelEncoder", {"x": x}, [(kind, 2)], version, **options)
    tensor = lambda name, values, dtype: numpy_helper.from_array(np.array(values, dtype), name)
    for of, to in itertools.product((np.int64, np.float64), (np.int64, np.float64, np.float32, np.int16)):
        options = {
            "keys_tensor": tensor("keys_tensor", [0, 2, -3], of),
            "values_tensor": tensor("values_tensor", [10, 20, 30], to),
            "default_tensor": tensor("default_tensor", [7], to),
        }
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(to))
        name = f"labels-tensor-{np.dtype(of).name}-{np.dtype(to).name}"
        cases.write(name, "LabelEncoder", {"x": numbers(of)}, [(kind, 2)], 4, **options)


def main():
    cases = Cases(pathlib.Path(sys.argv[1]))
    for group in (
        tree_classifiers,
        tree_regressors,
        flat_trees,
        weighted_sums,
        support_vectors,
        each_number,
        label_encoders,
    ):
        group(cases)
    print(f"{cases.count} cases; onnxruntime runs not {len(cases.left_out)}")
    if "-v" in sys.argv:
        print("\n".join(cases.left_out))


if __name__ == "__main__":
    main()
