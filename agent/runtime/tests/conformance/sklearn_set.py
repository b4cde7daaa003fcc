"""Writes models of scikit-learn, LightGBM and XGBoost as one folder a case: `model.onnx` and `vectors.npz`.

The models are what `to_onnx` of skl2onnx and the converters of onnxmltools give, most of them with their
default options, so with `ZipMap`. The answers are onnxruntime's; a `ZipMap`'s list of dictionaries becomes a
matrix with a column for each class in ascending order, and a label that is a text becomes the place of that
text in the list of classes, as preparing does.

usage: sklearn_set.py FOLDER
"""

import os

# One thread: the same numbers everywhere, and nothing to wait for.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import pathlib
import sys
import warnings

import lightgbm
import numpy as np
import onnx
import onnxruntime
import xgboost
from onnxmltools.convert import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType
from sklearn import (
    cluster,
    compose,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

ROWS = 40
FOREST = 12


def blobs(classes, features=8, seed=0, samples=240):
    """A classification problem that is not trivial, in float32 so that nothing is rounded on the way."""
    x, y = datasets.make_classification(
        samples,
        features,
        n_informative=min(features, 5),
        n_redundant=0,
        n_classes=classes,
        n_clusters_per_class=1,
        random_state=seed,
    )
    return x.astype(np.float32), y.astype(np.int64)


def curve(targets=1, features=6, seed=0, samples=240):
    x, y = datasets.make_regression(samples, features, n_targets=targets, noise=3.0, random_state=seed)
    return x.astype(np.float32), (y / np.abs(y).max()).astype(np.float32)


def whole(value):
    """Integers of numpy as Python's: the trees of HistGradientBoosting have such ids, and onnx refuses them."""
    if not isinstance(value, list):
        return value
    return [int(item) if isinstance(item, (bool, np.bool_, np.integer)) else item for item in value]


def accept_numpy_integers():
    make = onnx.helper.make_attribute
    onnx.helper.make_attribute = lambda key, value, *rest, **named: make(key, whole(value), *rest, **named)


class Cases:
    """Writes cases and counts them."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    def write(self, name, model, inputs):
        """Asks onnxruntime and stores what it says; `inputs` are arrays by name, or one array."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        if not isinstance(inputs, dict):
            inputs = {session.get_inputs()[0].name: inputs}
        answers = session.run(None, inputs)
        arrays = {f"in/{key}": np.ascontiguousarray(value) for key, value in inputs.items()}
        names = None
        for output, answer in zip(session.get_outputs(), answers, strict=True):
            if isinstance(answer, list):
                keys = sorted(answer[0])
                names = keys if isinstance(keys[0], str) else names
                answer = np.array([[row[key] for key in keys] for row in answer], np.float32)
            arrays[f"out/{output.name}"] = answer
        for key, value in arrays.items():
            if value.dtype == object:
                ordered = names or sorted(set(value.ravel().tolist()))
                places = {text: place for place, text in enumerate(ordered)}
                arrays[key] = np.vectorize(places.get)(value).astype(np.int64)
        target = self.folder / name
        target.mkdir(parents=True)
        (target / "model.onnx").write_bytes(model.SerializeToString())
        np.savez(target / "vectors.npz", **arrays)
        self.count += 1

    def sklearn(self, name, estimator, data, options=None, kind=None):
        """Fits and converts; `kind` is another type of input."""
        x, y = data
        estimator.fit(x, y)
        x = x[:ROWS]
        initial = None
        if kind is not None:
            initial = [("X", kind([None, x.shape[1]]))]
        sample = None if initial else x[:1]
        model = to_onnx(estimator, sample, initial_types=initial, options=options, target_opset={"": 18, "ai.onnx.ml": 3})
        self.write(name, model, x)


def linear(cases):
    for seed in range(2):
        x, y = curve(seed=seed, features=4 + 8 * seed)
        for name, model in {
            "linear": linear_model.LinearRegression(),
            "ridge": linear_model.Ridge(),
            "lasso": linear_model.Lasso(alpha=0.01),
            "elastic": linear_model.ElasticNet(alpha=0.01),
            "bayesian-ridge": linear_model.BayesianRidge(),
            "lars": linear_model.Lars(),
            "huber": linear_model.HuberRegressor(),
            "sgd-regressor": linear_model.SGDRegressor(random_state=seed),
            "linear-svr": svm.LinearSVR(random_state=seed),
            "theil-sen": linear_model.TheilSenRegressor(random_state=seed, max_subpopulation=50),
            "ard": linear_model.ARDRegression(),
            "ransac": linear_model.RANSACRegressor(random_state=seed),
        }.items():
            cases.sklearn(f"{name}-{seed}", model, (x, y))
    for name, model in {"poisson": linear_model.PoissonRegressor(), "gamma": linear_model.GammaRegressor()}.items():
        x, y = curve(seed=3)
        cases.sklearn(name, model, (x, np.exp(y)))
    cases.sklearn("linear-two-targets", linear_model.LinearRegression(), curve(2))
    cases.sklearn("ridge-three-targets", linear_model.Ridge(), curve(3))
    for classes in (2, 3, 7):
        data = blobs(classes, seed=classes)
        for name, model in {
            "logistic": linear_model.LogisticRegression(),
            "sgd-classifier-log": linear_model.SGDClassifier(loss="log_loss", random_state=0),
            "sgd-classifier-huber": linear_model.SGDClassifier(loss="modified_huber", random_state=0),
            "ridge-classifier": linear_model.RidgeClassifier(),
            "lda": discriminant_analysis.LinearDiscriminantAnalysis(),
            "qda": discriminant_analysis.QuadraticDiscriminantAnalysis(),
        }.items():
            cases.sklearn(f"{name}-{classes}", model, data)
            cases.sklearn(f"{name}-{classes}-plain", model, data, {"zipmap": False})
        for name, model in {
            "linear-svc": svm.LinearSVC(random_state=0),
            "perceptron": linear_model.Perceptron(random_state=0),
            "sgd-classifier-hinge": linear_model.SGDClassifier(random_state=0),
        }.items():
            cases.sklearn(f"{name}-{classes}", model, data)
        cases.sklearn(f"logistic-{classes}-raw", linear_model.LogisticRegression(), data, {"raw_scores": True})
        cases.sklearn(f"logistic-{classes}-columns", linear_model.LogisticRegression(), data, {"zipmap": "columns"})


def trees(cases):
    for classes in (2, 3, 7):
        for seed in range(2):
            data = blobs(classes, seed=seed, features=6 + 10 * seed)
            for name, model in {
                "tree": tree.DecisionTreeClassifier(random_state=seed),
                "extra-tree": tree.ExtraTreeClassifier(random_state=seed),
                "forest": ensemble.RandomForestClassifier(FOREST, random_state=seed),
                "extra-trees": ensemble.ExtraTreesClassifier(FOREST, random_state=seed),
                "boosting": ensemble.GradientBoostingClassifier(n_estimators=FOREST, random_state=seed),
                "hist": ensemble.HistGradientBoostingClassifier(max_iter=FOREST, random_state=seed),
            }.items():
                cases.sklearn(f"{name}-{classes}-{seed}", model, data)
                cases.sklearn(f"{name}-{classes}-{seed}-plain", model, data, {"zipmap": False})
    for seed in range(2):
        data = curve(seed=seed, features=4 + 8 * seed)
        for name, model in {
            "tree-regressor": tree.DecisionTreeRegressor(random_state=seed),
            "extra-tree-regressor": tree.ExtraTreeRegressor(random_state=seed),
            "forest-regressor": ensemble.RandomForestRegressor(FOREST, random_state=seed),
            "extra-trees-regressor": ensemble.ExtraTreesRegressor(FOREST, random_state=seed),
            "boosting-regressor": ensemble.GradientBoostingRegressor(n_estimators=FOREST, random_state=seed),
            "hist-regressor": ensemble.HistGradientBoostingRegressor(max_iter=FOREST, random_state=seed),
            "adaboost-regressor": ensemble.AdaBoostRegressor(n_estimators=5, random_state=seed),
            "bagging-regressor": ensemble.BaggingRegressor(n_estimators=5, random_state=seed),
        }.items():
            cases.sklearn(f"{name}-{seed}", model, data)
    cases.sklearn("forest-two-targets", ensemble.RandomForestRegressor(FOREST, random_state=0), curve(2))
    cases.sklearn("tree-three-targets", tree.DecisionTreeRegressor(random_state=0), curve(3))
    gaps = blobs(3)
    gaps[0][::5, 2] = np.nan
    cases.sklearn("hist-gaps", ensemble.HistGradientBoostingClassifier(max_iter=FOREST, random_state=0), gaps)
    gaps = curve()
    gaps[0][::3, 1] = np.nan
    cases.sklearn("hist-regressor-gaps", ensemble.HistGradientBoostingRegressor(max_iter=FOREST, random_state=0), gaps)
    cases.sklearn("forest-large", ensemble.RandomForestClassifier(50, random_state=0), blobs(4, 20, 1, 800))
    whole = (np.round(blobs(3)[0] * 4), blobs(3)[1])
    integers = (whole[0].astype(np.int64), whole[1])
    cases.sklearn("forest-integers", ensemble.RandomForestClassifier(FOREST, random_state=0), integers, kind=Int64TensorType)
    cases.sklearn("logistic-integers", linear_model.LogisticRegression(), integers, kind=Int64TensorType)
    doubles = (blobs(3)[0].astype(np.float64), blobs(3)[1])
    cases.sklearn("forest-doubles", ensemble.RandomForestClassifier(FOREST, random_state=0), doubles, kind=DoubleTensorType)
    cases.sklearn("logistic-doubles", linear_model.LogisticRegression(), doubles, kind=DoubleTensorType)
    for seed in range(2):
        data = blobs(2, seed=seed)
        cases.sklearn(f"isolation-{seed}", ensemble.IsolationForest(n_estimators=FOREST, random_state=seed), data)


def machines(cases):
    for kernel in ("linear", "poly", "rbf", "sigmoid"):
        cases.sklearn(f"svr-{kernel}", svm.SVR(kernel=kernel), curve())
        cases.sklearn(f"nu-svr-{kernel}", svm.NuSVR(kernel=kernel), curve())
        for classes in (2, 3, 5):
            data = blobs(classes, seed=classes)
            cases.sklearn(f"svc-{kernel}-{classes}", svm.SVC(kernel=kernel), data)
            cases.sklearn(f"svc-{kernel}-{classes}-sure", svm.SVC(kernel=kernel, probability=True, random_state=0), data)
        cases.sklearn(f"one-class-{kernel}", svm.OneClassSVM(kernel=kernel), blobs(2))
    cases.sklearn("nu-svc", svm.NuSVC(nu=0.3), blobs(3))
    cases.sklearn("nu-svc-2", svm.NuSVC(nu=0.3), blobs(2), {"zipmap": False})


def others(cases):
    for classes in (2, 3, 5):
        x, y = blobs(classes, seed=classes)
        counts = (np.round(np.abs(x) * 3).astype(np.float32), y)
        for name, model in {
            "gaussian-nb": naive_bayes.GaussianNB(),
            "bernoulli-nb": naive_bayes.BernoulliNB(),
            "knn": neighbors.KNeighborsClassifier(),
            "knn-distance": neighbors.KNeighborsClassifier(3, weights="distance"),
            "mlp": neural_network.MLPClassifier((12,), max_iter=60, random_state=0),
            "mlp-tanh": neural_network.MLPClassifier((8, 6), activation="tanh", max_iter=60, random_state=0),
            "mlp-logistic": neural_network.MLPClassifier((8,), activation="logistic", max_iter=60, random_state=0),
            "adaboost": ensemble.AdaBoostClassifier(n_estimators=6, random_state=0),
            "bagging": ensemble.BaggingClassifier(n_estimators=5, random_state=0),
            "voting": ensemble.VotingClassifier(
                [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0))],
                voting="soft",
                flatten_transform=False,
            ),
            "voting-hard": ensemble.VotingClassifier(
                [("a", linear_model.LogisticRegression()), ("b", naive_bayes.GaussianNB()), ("c", tree.DecisionTreeClassifier(random_state=0))],
                flatten_transform=False,
            ),
            "stacking": ensemble.StackingClassifier(
                [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0))]
            ),
        }.items():
            cases.sklearn(f"{name}-{classes}", model, (x, y))
        for name, model in {
            "multinomial-nb": naive_bayes.MultinomialNB(),
            "complement-nb": naive_bayes.ComplementNB(),
        }.items():
            cases.sklearn(f"{name}-{classes}", model, counts)
    for name, model in {
        "knn-regressor": neighbors.KNeighborsRegressor(),
        "knn-regressor-distance": neighbors.KNeighborsRegressor(3, weights="distance"),
        "mlp-regressor": neural_network.MLPRegressor(hidden_layer_sizes=(12,), max_iter=80, random_state=0),
        "mlp-regressor-tanh": neural_network.MLPRegressor(hidden_layer_sizes=(8, 4), activation="tanh", max_iter=80, random_state=0),
        "voting-regressor": ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(random_state=0))]),
        "gaussian-process": gaussian_process.GaussianProcessRegressor(
            gaussian_process.kernels.RBF(2.0), alpha=0.1, optimizer=None
        ),
    }.items():
        cases.sklearn(name, model, curve(samples=120))
    for seed in range(2):
        cases.sklearn(f"kmeans-{seed}", cluster.KMeans(4, n_init=2, random_state=seed), blobs(4, seed=seed))
        cases.sklearn(f"minibatch-kmeans-{seed}", cluster.MiniBatchKMeans(3, n_init=2, random_state=seed), blobs(3, seed=seed))
    cases.sklearn("gaussian-mixture", mixture.GaussianMixture(3, random_state=0), blobs(3))
    cases.sklearn("outlier-factor", neighbors.LocalOutlierFactor(novelty=True), blobs(2))


def steps(cases):
    """Preprocessing alone and before a model."""
    x, y = blobs(3, seed=5)
    gaps = x.copy()
    gaps[::4, 1] = np.nan
    for name, step, values in [
        ("standard-scaler", preprocessing.StandardScaler(), x),
        ("minmax-scaler", preprocessing.MinMaxScaler(), x),
        ("minmax-scaler-clip", preprocessing.MinMaxScaler(clip=True), x),
        ("robust-scaler", preprocessing.RobustScaler(), x),
        ("maxabs-scaler", preprocessing.MaxAbsScaler(), x),
        ("normalizer-l1", preprocessing.Normalizer("l1"), x),
        ("normalizer-l2", preprocessing.Normalizer("l2"), x),
        ("normalizer-max", preprocessing.Normalizer("max"), x),
        ("binarizer", preprocessing.Binarizer(threshold=0.2), x),
        ("polynomial", preprocessing.PolynomialFeatures(2), x[:, :4]),
        ("polynomial-3", preprocessing.PolynomialFeatures(3, include_bias=False), x[:, :3]),
        ("power", preprocessing.PowerTransformer(), x),
        ("kbins", preprocessing.KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"), x),
        ("kbins-dense", preprocessing.KBinsDiscretizer(4, encode="onehot-dense", strategy="uniform"), x),
        ("kbins-ordinal", preprocessing.KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), x),
        ("pca", decomposition.PCA(3), x),
        ("pca-whiten", decomposition.PCA(2, whiten=True), x),
        ("truncated-svd", decomposition.TruncatedSVD(3, random_state=0), x),
        ("kernel-pca", decomposition.KernelPCA(3, kernel="rbf"), x[:60]),
        ("select-k", feature_selection.SelectKBest(k=3), x),
        ("select-percentile", feature_selection.SelectPercentile(percentile=40), x),
        ("variance-threshold", feature_selection.VarianceThreshold(0.5), x),
        ("simple-imputer", impute.SimpleImputer(), gaps),
        ("simple-imputer-median", impute.SimpleImputer(strategy="median"), gaps),
        ("simple-imputer-constant", impute.SimpleImputer(strategy="constant", fill_value=7.0), gaps),
        ("knn-imputer", impute.KNNImputer(n_neighbors=2), gaps[:60]),
    ]:
        cases.sklearn(f"step-{name}", step, (values, y[: len(values)]))
        if name not in ("binarizer",):
            chain = pipeline.make_pipeline(step, linear_model.LogisticRegression(max_iter=400))
            cases.sklearn(f"chain-{name}", chain, (values, y[: len(values)]))
    whole = np.round(np.abs(x[:, :3]) * 1.5).astype(np.int64)
    for name, step in {
        "onehot": preprocessing.OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        "onehot-drop": preprocessing.OneHotEncoder(sparse_output=False, drop="first"),
        "ordinal": preprocessing.OrdinalEncoder(),
    }.items():
        cases.sklearn(f"step-{name}", step, (whole, y), kind=Int64TensorType)
        cases.sklearn(f"step-{name}-floats", step, (whole.astype(np.float32), y))
        chain = pipeline.make_pipeline(step, ensemble.RandomForestClassifier(FOREST, random_state=0))
        cases.sklearn(f"chain-{name}", chain, (whole, y), kind=Int64TensorType)
    for model in (linear_model.LogisticRegression(), ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0)):
        columns(cases, x, whole, y, model)
    cases.sklearn(
        "chain-union",
        pipeline.make_pipeline(
            pipeline.make_union(preprocessing.StandardScaler(), decomposition.PCA(2)), svm.SVC(probability=True, random_state=0)
        ),
        (x, y),
    )


def columns(cases, numbers, kinds, y, model):
    """Two named inputs of two types, whose columns are those of one table."""
    table = np.hstack([numbers[:, :3], kinds[:, :2].astype(np.float32)])
    chosen = compose.ColumnTransformer(
        [
            ("numbers", preprocessing.StandardScaler(), [0, 1, 2]),
            ("kinds", preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), [3, 4]),
        ]
    )
    chain = pipeline.make_pipeline(chosen, model).fit(table, y)
    initial = [("numbers", FloatTensorType([None, 3])), ("kinds", Int64TensorType([None, 2]))]
    made = to_onnx(chain, initial_types=initial, target_opset={"": 18, "ai.onnx.ml": 3})
    feeds = {"numbers": numbers[:ROWS, :3], "kinds": kinds[:ROWS, :2]}
    cases.write(f"columns-{type(model).__name__.lower()}", made, feeds)


def texts(cases):
    """Classes that are words."""
    for classes in (2, 4):
        x, y = blobs(classes, seed=classes)
        words = np.array(["ash", "birch", "cedar", "oak"])[y]
        for name, model in {
            "logistic": linear_model.LogisticRegression(),
            "forest": ensemble.RandomForestClassifier(FOREST, random_state=0),
            "boosting": ensemble.GradientBoostingClassifier(n_estimators=FOREST, random_state=0),
            "svc": svm.SVC(probability=True, random_state=0),
            "mlp": neural_network.MLPClassifier((8,), max_iter=60, random_state=0),
            "gaussian-nb": naive_bayes.GaussianNB(),
            "knn": neighbors.KNeighborsClassifier(),
            "hist": ensemble.HistGradientBoostingClassifier(max_iter=FOREST, random_state=0),
            "lda": discriminant_analysis.LinearDiscriminantAnalysis(),
            "bagging": ensemble.BaggingClassifier(n_estimators=4, random_state=0),
        }.items():
            cases.sklearn(f"words-{name}-{classes}", model, (x, words))
            cases.sklearn(f"words-{name}-{classes}-plain", model, (x, words), {"zipmap": False})
    x, y = blobs(3)
    cases.sklearn("numbers-forest", ensemble.RandomForestClassifier(FOREST, random_state=0), (x, y * 10 - 5))
    cases.sklearn("numbers-logistic", linear_model.LogisticRegression(), (x, y * 10 - 5))


def boosters(cases):
    quiet = {"n_estimators": FOREST, "verbose": -1, "num_threads": 1, "random_state": 0}
    single = {"n_estimators": FOREST, "n_jobs": 1, "random_state": 0}
    opset = {"target_opset": 15}
    for classes in (2, 3, 5):
        for seed in range(2):
            x, y = blobs(classes, seed=seed)
            initial = [("input", ToolsFloat([None, x.shape[1]]))]
            model = lightgbm.LGBMClassifier(**quiet).fit(x, y)
            cases.write(f"lightgbm-{classes}-{seed}", convert_lightgbm(model, initial_types=initial, **opset), x[:ROWS])
            plain = convert_lightgbm(model, initial_types=initial, zipmap=False, **opset)
            cases.write(f"lightgbm-{classes}-{seed}-plain", plain, x[:ROWS])
            model = xgboost.XGBClassifier(**single).fit(x, y)
            cases.write(f"xgboost-{classes}-{seed}", convert_xgboost(model, initial_types=initial, **opset), x[:ROWS])
    for seed in range(2):
        x, y = curve(seed=seed)
        gaps = x.copy()
        gaps[::3, 1] = np.nan
        initial = [("input", ToolsFloat([None, x.shape[1]]))]
        for name, values in {"": x, "-gaps": gaps}.items():
            model = lightgbm.LGBMRegressor(**quiet).fit(values, y)
            cases.write(f"lightgbm-regressor-{seed}{name}", convert_lightgbm(model, initial_types=initial, **opset), values[:ROWS])
            model = xgboost.XGBRegressor(**single).fit(values, y)
            cases.write(f"xgboost-regressor-{seed}{name}", convert_xgboost(model, initial_types=initial, **opset), values[:ROWS])


def main():
    warnings.simplefilter("ignore")
    accept_numpy_integers()
    cases = Cases(pathlib.Path(sys.argv[1]))
    for group in (linear, trees, machines, others, steps, texts, boosters):
        group(cases)
    print(f"{cases.count} cases")


if __name__ == "__main__":
    main()
