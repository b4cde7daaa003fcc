"""Golden vectors: what onnxruntime answers to rows of input.

usage: MODEL OUT ROWS SEED RTOL ATOL [INPUT]
"""

import json
import sys

import numpy as np
import onnxruntime

TYPES = {
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    **{f"tensor({kind}{bits})": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


def given(path, specs, rows):
    """Rows from a file, by the names of the model's inputs."""
    if path.endswith(".npz"):
        arrays = dict(np.load(path))
        arrays = {name.removeprefix("in/"): array for name, array in arrays.items()}
    elif path.endswith(".npy"):
        arrays = {specs[0].name: np.load(path)}
    else:
        table = np.genfromtxt(path, delimiter=",", skip_header=0 if numeric(path) else 1, ndmin=2)
        arrays, column = {}, 0
        for spec in specs:
            width = int(np.prod([size for size in spec.shape[1:]], initial=1))
            arrays[spec.name] = table[:, column : column + width]
            column += width
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        sys.exit(f"{path} has {sorted(arrays)} and lacks {missing}")
    fed = {}
    for spec in specs:
        array = arrays[spec.name][:rows].astype(TYPES[spec.type])
        inner = [size if isinstance(size, int) else -1 for size in spec.shape[1:]]
        fed[spec.name] = np.ascontiguousarray(array.reshape([len(array), *inner]) if inner.count(-1) < 2 else array)
    return fed


def numeric(path):
    with open(path) as file:
        first = file.readline().strip().split(",")
    try:
        [float(cell) for cell in first]
    except ValueError:
        return False
    return True


def drawn(specs, rows, seed):
    """Rows by chance: numbers from 0 to 1, whole numbers from 0 to 9."""
    chance = np.random.default_rng(seed)
    fed = {}
    for spec in specs:
        first = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else rows
        shape = [first * max(1, rows // first), *(size if isinstance(size, int) else 1 for size in spec.shape[1:])]
        dtype = np.dtype(TYPES[spec.type])
        numbers = chance.random(shape) if dtype.kind == "f" else chance.integers(0, 2 if dtype.kind == "b" else 10, shape)
        fed[spec.name] = numbers.astype(dtype)
    return fed


def answers(session, specs, fed):
    """Block by block where the model takes blocks of a fixed number of rows."""
    names = [output.name for output in session.get_outputs()]
    block = specs[0].shape[0] if specs[0].shape and isinstance(specs[0].shape[0], int) else None
    rows = len(next(iter(fed.values())))
    if block is None:
        return dict(zip(names, session.run(names, fed)))
    if rows < block:
        sys.exit(f"the model takes blocks of {block} rows, and {rows} are given")
    parts = [
        session.run(names, {name: array[start : start + block] for name, array in fed.items()})
        for start in range(0, rows - block + 1, block)
    ]
    return {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(names)}


def main():
    model, out, rows, seed, rtol, atol, *path = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As the format says: what is fused may round otherwise (a quantised Softmax does).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    specs = session.get_inputs()
    unknown = [spec.name for spec in specs if spec.type not in TYPES]
    if unknown:
        sys.exit(f"no rows can be made for the inputs {unknown}: they are no tensors of numbers")
    fed = given(path[0], specs, int(rows)) if path else drawn(specs, int(rows), int(seed))
    made = answers(session, specs, fed)
    count = min(len(array) for array in made.values())
    meta = {
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "rtol": float(rtol),
        "atol": float(atol),
    }
    arrays = {f"in/{name}": array[:count] for name, array in fed.items()}
    arrays |= {f"out/{name}": array[:count] for name, array in made.items()}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    with open(out, "wb") as file:
        np.savez(file, **arrays)


main()
