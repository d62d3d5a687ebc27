#!/usr/bin/env python3
"""Holds the outputs in this folder to their references; needs NumPy and nothing of fusebench.
Exits 1 when an element is further from its reference than its bound allows. layer_norm, rms_norm,
softmax and linear are computed once more, from the inputs, and held to the same bound."""
import json
import math
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def layer_norm(x, g, b, eps, **_):
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + eps) * g + b


def rms_norm(x, g, eps, **_):
    return x / np.sqrt((x**2).mean(1, keepdims=True) + eps) * g


def softmax(x, len, **_):
    x = np.where(np.arange(x.shape[1]) < len[:, None], x, -np.inf)
    weights = np.exp(x - x.max(1, keepdims=True, initial=np.finfo(float).min))
    return weights / np.fmax(weights.sum(1, keepdims=True), np.finfo(float).tiny)


def linear(x, w, b, option=None, **_):
    v = x @ w.T + b
    erf = np.vectorize(math.erf, otypes=[float])
    half, scale, cubic, slope = np.float32([0.5**0.5, 0.7978846, 0.044715, 1.702]).astype(float)
    return {
        None: lambda: v,
        "gelu": lambda: v / 2 * (1 + erf(v * half)),
        "gelu_tanh": lambda: v / 2 * (1 + np.tanh(scale * (v + cubic * v**3))),
        "gelu_quick": lambda: v / (1 + np.exp(-slope * v)),
    }[option]()


def compare(name, got, want, bound):
    got, known = got.astype(float), np.isfinite(bound)  # an infinite bound allows any number
    delta = np.abs(got - want)
    exact = np.where(known & (delta > 0), np.inf, 0.0)
    over = np.divide(delta, bound, out=exact, where=known & (bound > 0))
    worst = np.where(np.isfinite(got) | ~known, over, np.inf).max(initial=0)
    error, power = (delta[known] ** 2).sum(), (want[known] ** 2).sum()
    nmse = error / power if error else 0.0
    sqnr = f"{-10 * math.log10(nmse):.0f} dB" if error else "exact"
    print(f"  {name:<18}  max|d| {delta[known].max(initial=0):9.3e}  max|d|/bound {worst:9.3g}"
          f"  NMSE {nmse:9.3e}  SQNR {sqnr:>6}  {'ok' if worst <= 1 else 'WRONG'}")
    return bool(worst <= 1)


def check(cell):
    reason = f": {cell['reason']}" if cell["reason"] else ""
    print(f"{cell['id']}  (fusebench: {cell['status']}{reason})")
    arrays = {(f["role"], f["name"]): np.load(HERE / f["path"]) for f in cell["files"]}
    inputs = {name: a.astype(float) for (role, name), a in arrays.items() if role == "input"}
    again = {f.__name__: f for f in (layer_norm, rms_norm, softmax, linear)}.get(cell["kernel"])
    good = True
    for name in [name for role, name in arrays if role == "output"]:
        want, bound = arrays["reference", name], arrays["bound", name]
        good &= compare(name, arrays["output", name], want, bound)
        if again:
            want = again(**inputs, **cell["params"], option=cell.get("option"))
            good &= compare(f"{name}, computed here", arrays["output", name], want, bound)
    return good


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        cells = json.loads((HERE / "manifest.json").read_text("utf-8"))["cells"]
        wrong = [cell["id"] for cell in cells if not check(cell)]
    print(f"{len(cells)} cells, {len(wrong)} beyond their bound", *wrong, sep="\n  ")
    sys.exit(bool(wrong))
