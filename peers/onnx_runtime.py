"""ONNX Runtime on the CPU, told what to do line by line: `onnx_runtime.py`, started by the crate.

Each line on standard input is one JSON object, and so is each line of the answer:

    {"load": KERNEL, "folder": DIR, "option": …, "params": {…}}    → {}
    {"run": N}                                                     → {"seconds": S}
    {"answer": DIR}                                                → {"outputs": N}
    {"version": null}                                              → {"version": TEXT}

DIR holds the inputs as NAME.npy. Answers go there as 0.f32, 1.f32 and so on: little-endian values
in the kernel's layout. What goes wrong is {"error": TEXT}. Weights are initializers, which lets
ONNX Runtime pack them beforehand.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

TYPES = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}


class Model:
    """A graph of one or more nodes under construction."""

    def __init__(self):
        self.nodes, self.feed, self.weights = [], {}, []

    def given(self, name, array):
        """An input that changes from run to run."""
        self.feed[name] = np.ascontiguousarray(array)
        return name

    def fixed(self, name, array):
        """A weight."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator, *inputs, **attributes):
        """The name of the result."""
        name = f"r{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def session(self, outputs):
        info = helper.make_tensor_value_info
        given = [info(name, TYPES[a.dtype], a.shape) for name, a in self.feed.items()]
        wanted = [info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "one", given, wanted, self.weights)
        opset = [helper.make_opsetid("", 23)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=11)
        options = onnxruntime.SessionOptions()
        # Threads that go on spinning would take the cores from whoever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


# Each of these adds nodes for one kernel and gives the names of its outputs, and how an output
# becomes what the kernel writes where it is not that already.


def linear(m, option, params, x, w, b):
    y = m.node("Gemm", m.given("x", x), m.fixed("w", w), m.fixed("b", b), transB=1)
    return [m.node("Gelu", y) if option == "gelu" else y]


def cosine_similarity(m, option, params, a, b):
    a, b = (m.node("LpNormalization", m.given(n, x), axis=1, p=2) for n, x in (("a", a), ("b", b)))
    turned = m.node("Transpose", b, perm=[1, 0])
    scale = m.fixed("scale", np.float32(params["temperature"]).reshape(1))
    return [m.node("Mul", m.node("MatMul", a, turned), scale)]


def cross_attention(m, option, params, q, k, v, len, mask):
    heads = {"q": q, "k": k, "v": v}
    names = [m.given(name, array.transpose(0, 2, 1, 3)) for name, array in heads.items()]
    o = m.node("Attention", *names, scale=params["scale"])
    return [o], lambda o: o.transpose(0, 2, 1, 3)


def softmax(m, option, params, x, len):
    return [m.node("Softmax", m.given("x", x))]


def norm(m, x, g, b, params):
    return m.node("LayerNormalization", x, g, b, epsilon=params["eps"])


def layer_norm(m, option, params, x, g, b):
    return [norm(m, m.given("x", x), m.fixed("g", g), m.fixed("b", b), params)]


def add_layer_norm(m, option, params, x, res, bias, g, b):
    h = m.node("Add", m.node("Add", m.given("x", x), m.given("res", res)), m.fixed("bias", bias))
    return [h, norm(m, h, m.fixed("g", g), m.fixed("b", b), params)]


def rms_norm(m, option, params, x, g):
    return [m.node("RMSNormalization", m.given("x", x), m.fixed("g", g), epsilon=params["eps"])]


def l2_normalize(m, option, params, x):
    return [m.node("LpNormalization", m.given("x", x), axis=1, p=2)]


def batch_norm(m, option, params, x, mean, variance, g, b):
    weights = {"g": g, "b": b, "mean": mean, "variance": variance}
    names = [m.fixed(name, array) for name, array in weights.items()]
    return [m.node("BatchNormalization", m.given("x", x), *names, epsilon=params["eps"])]


def group_norm(m, option, params, x, g, b):
    names = m.given("x", x), m.fixed("g", g), m.fixed("b", b)
    groups, eps = params["groups"], params["eps"]
    return [m.node("GroupNormalization", *names, num_groups=groups, epsilon=eps)]


def film(m, option, params, x, gamma, beta, present):
    scaled = m.node("Mul", m.given("x", x), m.given("gamma", gamma[:, None]))
    return [m.node("Add", scaled, m.given("beta", beta[:, None]))]


def weighted_sum(m, option, params, x, a, present):
    weights = m.node("Softmax", m.given("a", a[:, None, None]), axis=0)
    axes = m.fixed("axes", np.array([0]))
    return [m.node("ReduceSum", m.node("Mul", m.given("x", x), weights), axes, keepdims=0)]


def gated_fusion(m, option, params, u, v, present):
    u, v = m.node("Tanh", m.given("u", u)), m.node("Sigmoid", m.given("v", v))
    axes = m.fixed("axes", np.array([0]))
    return [m.node("ReduceSum", m.node("Mul", u, v), axes, keepdims=0)]


def concat(m, option, params, present, **parts):
    names = [m.given(name, parts[name]) for name in sorted(parts) if parts[name].size]
    return [m.node("Concat", *names, axis=1)]


def embedding_lookup(m, option, params, ids, table, positions):
    # Unknown tokens take a row of zeros behind the table.
    known = np.minimum(ids, len(table)).astype(np.int64)
    table = np.concatenate([table, np.zeros_like(table[:1])])
    return [m.node("Gather", m.given("table", table), m.given("ids", known))]


def conv1d(m, option, params, x, w, bias):
    weights = m.fixed("w", w.transpose(0, 2, 1)), m.fixed("bias", bias)
    pad, stride = params["pad"], params["stride"]
    y = m.node("Conv", m.given("x", x.transpose(0, 2, 1)), *weights, pads=[pad, pad],
               strides=[stride])
    return [y], lambda y: y.transpose(0, 2, 1)


def resize_bilinear(m, option, params, x):
    sizes = m.fixed("sizes", np.array([params["rows"], params["columns"]]))
    image = m.given("x", x.transpose(2, 0, 1)[None])
    y = m.node("Resize", image, "", "", sizes, axes=[2, 3], mode="linear")
    return [y], lambda y: y[0].transpose(1, 2, 0)


ORDERS = ("load", "run", "answer", "version")


class Server:
    def __init__(self):
        self.session = self.feed = self.finish = None

    def load(self, request):
        folder = Path(request["folder"])
        arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
        build = globals().get(request["load"])
        if build is None:
            raise ValueError(f"no operator for {request['load']}")
        model = Model()
        built = build(model, request["option"], request["params"], **arrays)
        outputs, self.finish = built if isinstance(built, tuple) else (built, lambda array: array)
        self.session, self.feed = model.session(outputs), model.feed
        return {}

    def run(self, request):
        started = time.perf_counter()
        for _ in range(request["run"]):
            self.session.run(None, self.feed)
        return {"seconds": time.perf_counter() - started}

    def version(self, request):
        return {"version": onnxruntime.__version__}

    def answer(self, request):
        outputs = self.session.run(None, self.feed)
        for n, output in enumerate(outputs):
            values = np.ascontiguousarray(self.finish(output), dtype=np.float32)
            values.tofile(Path(request["answer"]) / f"{n}.f32")
        return {"outputs": len(outputs)}


def main():
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            order = next(name for name in ORDERS if name in request)
            reply = getattr(server, order)(request)
        except Exception as error:  # The crate tells the user, and goes on without it.
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
