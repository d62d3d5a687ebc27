"""Holds the outputs of a dump to ONNX Runtime on the CPU: `real_shapes.py DIR`.

Each cell becomes a model of one operator. Both implementations are f32 and both may be as far from
the exact answer as the tracked bound says: ONNX Runtime is held to the reference first, then the
device to ONNX Runtime, within twice the bound. Integer sums and selections must be equal. Exits 1
when one is not.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

TYPES = {
    np.dtype("float32"): TensorProto.FLOAT,
    np.dtype("int8"): TensorProto.INT8,
    np.dtype("int32"): TensorProto.INT32,
    np.dtype("int64"): TensorProto.INT64,
}


def run(operator, inputs, outputs=(np.dtype("float32"),), **attributes):
    """The outputs of one operator on some arrays; None leaves an input out."""
    names = ["" if a is None else f"i{n}" for n, a in enumerate(inputs)]
    feed = {name: a for name, a in zip(names, inputs) if name}
    results = [f"o{n}" for n in range(len(outputs))]
    info = helper.make_tensor_value_info
    given = [info(name, TYPES[a.dtype], a.shape) for name, a in feed.items()]
    wanted = [info(n, TYPES[dtype], None) for n, dtype in zip(results, outputs)]
    node = helper.make_node(operator, names, results, **attributes)
    graph = helper.make_graph([node], "one", given, wanted)
    opset = [helper.make_opsetid("", 23)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=11)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)


def layer_norm(cell, x, g, b):
    return run("LayerNormalization", [x, g, b], epsilon=cell["params"]["eps"])


def rms_norm(cell, x, g):
    return run("RMSNormalization", [x, g], epsilon=cell["params"]["eps"])


def group_norm(cell, x, g, b):
    params = cell["params"]
    return run("GroupNormalization", [x, g, b], num_groups=params["groups"], epsilon=params["eps"])


def softmax(cell, x, len):
    assert (len == x.shape[1]).all(), "rows of one length"
    return run("Softmax", [x])


def l2_normalize(cell, x):
    return run("LpNormalization", [x], p=2)


def linear(cell, x, w, b):
    return run("Gemm", [x, w, b], transB=1)


def cross_attention(cell, q, k, v, len, mask):
    assert (len == k.shape[1]).all(), "keys of one length"
    heads = [np.ascontiguousarray(a.transpose(0, 2, 1, 3)) for a in (q, k, v)]
    (o,) = run("Attention", heads, scale=cell["params"]["scale"])
    return [o.transpose(0, 2, 1, 3)]


def linear_w8a8(cell, qa, sa, qw, sw, b):
    (sums,) = run("MatMulInteger", [qa, np.ascontiguousarray(qw.T)], [np.dtype("int32")])
    return [sums * sa.astype(float) * sw.astype(float).T + b]


def resize_bilinear(cell, x):
    params = cell["params"]
    sizes = np.array([params["rows"], params["columns"]], dtype=np.int64)
    image = np.ascontiguousarray(x.transpose(2, 0, 1))[None]
    (y,) = run("Resize", [image, None, None, sizes], axes=[2, 3], mode="linear")
    return [y[0].transpose(1, 2, 0)]


def top_k(cell, x):
    k = np.array([cell["params"]["k"]], dtype=np.int64)
    return run("TopK", [x, k], [np.dtype("float32"), np.dtype("int64")])


def check(folder, cell):
    def arrays(role):
        files = [f for f in cell["files"] if f["role"] == role]
        return {f["name"]: np.load(folder / f["path"]) for f in files}

    theirs = globals()[cell["kernel"]](cell, **arrays("input"))
    good = True
    for (name, ours), their in zip(arrays("output").items(), theirs, strict=True):
        exact, bound = arrays("reference")[name], arrays("bound")[name]
        their = np.asarray(their, dtype=float).reshape(exact.shape)
        ours = ours.astype(float)

        def share(difference, allowed):
            over = np.full_like(difference, np.inf)
            np.divide(difference, allowed, out=over, where=allowed > 0)
            return float(np.where(difference == 0, 0.0, over).max())

        of_theirs = share(abs(their - exact), bound)
        of_both = share(abs(ours - their), 2 * bound)
        passed = of_theirs <= 1 and of_both <= 1
        good &= passed
        largest = abs(ours - their).max()
        print(
            f"{cell['id']:<48} {name:<8} max|d| {largest:8.2e}  ONNX Runtime {of_theirs:5.3f} of the"
            f" bound, apart {of_both:5.3f}  {'ok' if passed else 'WRONG'}"
        )
    return good


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    cells = json.loads((folder / "manifest.json").read_text("utf-8"))["cells"]
    results = [check(folder, cell) for cell in cells]
    print(f"{len(results)} cells, {results.count(False)} differ from ONNX Runtime")
    sys.exit(not all(results))
