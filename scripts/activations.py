#!/usr/bin/env python3
"""Computes what the linear layers of all-MiniLM-L6-v2 see on a few sentences: FOLDER holds its
model.safetensors and vocab.txt and gets activations.safetensors, float32 and named after the
weights, `….query.weight` by `….query.input`. Needs NumPy and nothing else."""
import json
import math
import sys
import unicodedata
from pathlib import Path

import numpy as np

HEADS = 12
EPS = 1e-12
SENTENCES = [
    "The microphone heard a dog bark twice before the camera saw it cross the street.",
    "Rain on the window, and the quiet hum of a refrigerator in the next room.",
    "In 1969 three people watched the Earth rise over the Moon's grey horizon.",
    "Her voice was calm; her hands were not.",
]


def load(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, info in json.loads(data[8:start]).items():
        if name != "__metadata__" and info["dtype"] == "F32":
            first, end = (start + offset for offset in info["data_offsets"])
            tensors[name] = np.frombuffer(data[first:end], "<f4").reshape(info["shape"])
    return {name: tensor.astype(float) for name, tensor in tensors.items()}


def save(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        part = np.ascontiguousarray(tensor, "<f4").tobytes()
        offsets = [len(data), len(data) + len(part)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def words(sentence):
    """Lower case, without accents, punctuation by itself."""
    plain = unicodedata.normalize("NFD", sentence.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return "".join(c if c.isalnum() or c.isspace() else f" {c} " for c in plain).split()


def pieces(word, vocabulary):
    """The longest known piece first, again and again."""
    found, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        mark = "##" if start else ""
        end = next((end for end in ends if mark + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        found.append(mark + word[start:end])
        start = end
    return found


def layer_norm(x, model, name):
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + EPS)
    return scaled * model[f"{name}.weight"] + model[f"{name}.bias"]


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def encode(ids, model, keep):
    """One sentence through all layers; `keep` is given the input of each linear layer."""
    def linear(x, name):
        keep(f"{name}.input", x)
        return x @ model[f"{name}.weight"].T + model[f"{name}.bias"]

    erf = np.vectorize(math.erf, otypes=[float])
    embeddings = "embeddings.{}_embeddings.weight".format
    x = model[embeddings("word")][ids] + model[embeddings("position")][: len(ids)]
    x = layer_norm(x + model[embeddings("token_type")][0], model, "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        split = [linear(x, f"{at}.attention.self.{part}") for part in ("query", "key", "value")]
        q, k, v = (part.reshape(len(ids), HEADS, -1).transpose(1, 0, 2) for part in split)
        for name, part in (("q", q), ("k", k), ("v", v)):
            keep(f"{at}.attention.self.{name}", part.transpose(1, 0, 2))
        mixed = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[2])) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(x.shape)
        x = x + linear(mixed, f"{at}.attention.output.dense")
        x = layer_norm(x, model, f"{at}.attention.output.LayerNorm")
        wide = linear(x, f"{at}.intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        x = layer_norm(x + linear(wide, f"{at}.output.dense"), model, f"{at}.output.LayerNorm")
    return x


def main(folder):
    model = load(folder / "model.safetensors")
    lines = (folder / "vocab.txt").read_text("utf-8").splitlines()
    vocabulary = {word: number for number, word in enumerate(lines)}
    kept = {}
    for sentence in SENTENCES:
        tokens = [piece for word in words(sentence) for piece in pieces(word, vocabulary)]
        ids = [vocabulary[token] for token in ["[CLS]", *tokens, "[SEP]"]]
        last = encode(ids, model, lambda name, x: kept.setdefault(name, []).append(x))
        kept.setdefault("embedding", []).append(last.mean(0, keepdims=True))
    # Rows of all sentences together; of attention only the first, as one batch.
    heads = {name: parts[0][None] for name, parts in kept.items() if parts[0].ndim == 3}
    rows = {name: np.concatenate(parts) for name, parts in kept.items() if name not in heads}
    save(folder / "activations.safetensors", rows | heads)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
