"""Makes golden vectors for an ONNX model: rows of input and what onnxruntime answers to them.

    python make_vectors.py MODEL.onnx INPUT.npz OUT.npz [--rows 16] [--rtol 1e-3] [--atol 1e-4]

Bellwether scores with another runtime, so vectors made here are a second opinion: a package is
accepted only when the runtime that will serve it gives the same answers.

INPUT.npz holds one array per model input, named like it, rows along the first axis. OUT.npz holds
`in/<input>` and `out/<output>` (float32, same number of rows each) and `meta`, a JSON text as
bytes: the runtime, its version and the tolerance |got - expected| <= atol + rtol * |expected|.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime as ort

ROWS_MAX = 1024  # a self-test runs on the device at every install, so it has to stay small


def main() -> int:
    ask = argparse.ArgumentParser(description="Make golden vectors with onnxruntime.")
    ask.add_argument("model")
    ask.add_argument("input")
    ask.add_argument("out")
    ask.add_argument("--rows", type=int, default=16, help="rows to keep (default 16)")
    ask.add_argument("--rtol", type=float, default=1e-3)
    ask.add_argument("--atol", type=float, default=1e-4)
    args = ask.parse_args()
    if not 1 <= args.rows <= ROWS_MAX:
        print(f"--rows must be 1 to {ROWS_MAX}, not {args.rows}", file=sys.stderr)
        return 2
    try:
        make(args.model, args.input, args.out, args.rows, args.rtol, args.atol)
    except ValueError as why:
        print(f"cannot make vectors: {why}", file=sys.stderr)
        return 1
    return 0


def make(model: str, source: str, out: str, rows: int, rtol: float, atol: float) -> None:
    """Runs `rows` rows of `source` through `model` and writes both ends to `out`."""
    scorer = session(model)
    feed = read_inputs(scorer, source, rows)
    names = [o.name for o in scorer.get_outputs()]
    answers = dict(zip(names, scorer.run(names, feed)))
    for name, answer in answers.items():
        if answer.ndim == 0 or len(answer) != rows or not np.isfinite(answer).all():
            raise ValueError(f"output `{name}` has shape {answer.shape} or is not finite: "
                             f"expected {rows} finite rows")
    meta = {
        "runtime": "onnxruntime",
        "runtime_version": ort.__version__,
        "rtol": rtol,
        "atol": atol,
    }
    arrays = {f"in/{name}": rows_of for name, rows_of in feed.items()}
    arrays |= {f"out/{name}": answer.astype(np.float32) for name, answer in answers.items()}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    np.savez(out, **arrays)


def session(model: str) -> ort.InferenceSession:
    """One thread on the CPU, so that the answer does not depend on the machine's core count."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_inputs(scorer: ort.InferenceSession, source: str, rows: int) -> dict[str, np.ndarray]:
    """The first `rows` rows of every input that the model names; refuses what does not fit."""
    have = np.load(source, allow_pickle=False)
    feed = {}
    for want in scorer.get_inputs():
        if want.name not in have.files:
            raise ValueError(f"{source} has {have.files}, the model asks for `{want.name}`")
        if want.type != "tensor(float)":
            raise ValueError(f"input `{want.name}` is {want.type}; only float32 is supported")
        if len(have[want.name]) < rows:
            raise ValueError(f"`{want.name}` has {len(have[want.name])} rows, {rows} are needed")
        feed[want.name] = np.ascontiguousarray(have[want.name][:rows], dtype=np.float32)
    return feed


if __name__ == "__main__":
    sys.exit(main())
