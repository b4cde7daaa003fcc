"""Computes the population stability index of every input column with numpy, from raw rows and the
edges that the hub published, and prints how far the hub's numbers are from it."""

import json
import sys

import numpy as np


def counted(values: np.ndarray, lower: np.ndarray, top: np.float32) -> np.ndarray:
    """Values below, in each bin, above, missing."""
    inside = values[(values >= lower[0]) & (values <= top)]
    edges = np.append(lower, np.nextafter(top, np.float32(np.inf)))
    bins, _ = np.histogram(inside, edges)
    missing = np.isnan(values).sum()
    return np.concatenate([[(values < lower[0]).sum()], bins, [(values > top).sum(), missing]])


def psi(then: np.ndarray, now: np.ndarray) -> float:
    held = (then > 0) | (now > 0)
    then, now, buckets = then[held], now[held], held.sum()
    q = (then + 0.5) / (then.sum() + buckets / 2)
    p = (now + 0.5) / (now.sum() + buckets / 2)
    return float(np.sum((p - q) * np.log(p / q)))


def bias(then: np.ndarray, now: np.ndarray) -> float:
    held = np.count_nonzero((then > 0) | (now > 0))
    return (held - 1) * (1 / now.sum() + 1 / then.sum())


def main() -> None:
    with open(sys.argv[1]) as file:
        facts = json.load(file)
    then = np.array(facts["then"], dtype=np.float32)
    # The hub merged whole repetitions of the same rows: as many as its count says.
    once = np.array(facts["now"], dtype=np.float32)
    worst, columns = 0.0, 0
    for column in facts["monitor"]["items"]:
        if column["side"] != "input":
            continue
        index = int(column["name"].split("[")[1].rstrip("]"))
        lower = np.array(column["lower"], dtype=np.float32)
        top = np.float32(column["top"])
        repeated, rest = divmod(column["current"]["n"], len(once))
        assert rest == 0 and repeated > 0, column["current"]["n"]
        reference = counted(then[:, index], lower, top)
        current = counted(once[:, index], lower, top) * repeated
        for name, counts in (("reference", reference), ("current", current)):
            told = column[name]
            listed = [told["below"], *told["bins"], told["above"], told["missing"]]
            assert listed == counts.tolist(), (column["name"], name, listed, counts.tolist())
        expected = psi(reference, current)
        worst = max(worst, abs(expected - column["psi"]))
        worst = max(worst, abs(expected - bias(reference, current) - column["corrected"]))
        columns += 1
    print(json.dumps({"columns": columns, "worst": worst}))


if __name__ == "__main__":
    main()
