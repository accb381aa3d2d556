#!/usr/bin/env python3
"""Compares RWKV-7 with its formulas (Peng et al. 2025, arXiv 2503.14456) in float64.

A tiny random model, with and without an output gate, is written to GGUF and the
logits of `watt logits` are compared with numpy's, in both executors and token by
token. Where WATT_SHARED has the trained toy models/rwkv-tiny (a PyTorch file; it
reverses digits) and torch is there, the same is done with its weights.

WATT names the program under test.
"""
# requires: gguf numpy; for the trained toy: torch
import glob
import os
import struct
import subprocess
import sys
import tempfile

sys.path.pop(0)     # this file's folder: a file there has a package's name

try:
    import gguf
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
LIMIT = {"ref": 1e-12, "cpu": 1e-11}     # normalised mean squared error


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, gain, bias, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain + bias


def before(x):
    return np.concatenate([np.zeros_like(x[:1]), x[:-1]])


def time_mix(x, w, p, first, head):
    n, width = x.shape
    heads = width // head
    d = before(x) - x
    r, dw, k, v, a, g = (x + d * w[p + "x_" + c] for c in "rwkvag")
    r = r @ w[p + "receptance"].T
    decay = np.exp(-np.exp(-0.5) * sigmoid(w[p + "w0"] + np.tanh(dw @ w[p + "w1"]) @ w[p + "w2"]))
    k = k @ w[p + "key"].T
    mix_v, v = v, v @ w[p + "value"].T
    if first is None:
        first = v
    else:
        v = v + (first - v) * sigmoid(w[p + "v0"] + mix_v @ w[p + "v1"] @ w[p + "v2"])
    a = sigmoid(w[p + "a0"] + a @ w[p + "a1"] @ w[p + "a2"])
    kk = (k * w[p + "k_k"]).reshape(n, heads, head)
    kk = kk / np.maximum(np.sqrt((kk * kk).sum(-1, keepdims=True)), 1e-12)
    k = k * (1 + (a - 1) * w[p + "k_a"])
    r, decay, k, v, a = (z.reshape(n, heads, head) for z in (r, decay, k, v, a))
    state = np.zeros((heads, head, head))
    y = np.zeros((n, heads, head))
    for t in range(n):
        # S diag(w) - (S kk) (kk a)^T + v k^T
        away = np.einsum("hij,hj->hi", state, kk[t])
        state = (state * decay[t][:, None, :] - away[:, :, None] * (kk[t] * a[t])[:, None, :]
                 + v[t][:, :, None] * k[t][:, None, :])
        y[t] = np.einsum("hij,hj->hi", state, r[t])
    y = layer_norm(y, w[p + "ln_w"].reshape(heads, head), w[p + "ln_b"].reshape(heads, head), 64e-5)
    y = y + (r * k * w[p + "r_k"].reshape(heads, head)).sum(-1, keepdims=True) * v
    y = y.reshape(n, width)
    if p + "g1" in w:
        y = y * (sigmoid(g @ w[p + "g1"]) @ w[p + "g2"])
    return y @ w[p + "output"].T, first


def channel_mix(x, w, p):
    k = (x + (before(x) - x) * w[p + "ffn_x"]) @ w[p + "ffn_key"].T
    return np.maximum(k, 0) ** 2 @ w[p + "ffn_value"].T


def forward(w, layers, head, ids):
    x, first = w["e"][ids], None
    if "ln0_w" in w:
        x = layer_norm(x, w["ln0_w"], w["ln0_b"])
    for i in range(layers):
        p = f"{i}."
        y, first = time_mix(layer_norm(x, w[p + "ln1_w"], w[p + "ln1_b"]), w, p, first, head)
        x = x + y
        x = x + channel_mix(layer_norm(x, w[p + "ln2_w"], w[p + "ln2_b"]), w, p)
    x = layer_norm(x, w["lno_w"], w["lno_b"]) @ w["o"].T
    return x + w["o_b"] if "o_b" in w else x


NAMES = {"ln1_w": "attn_norm.weight", "ln1_b": "attn_norm.bias", "ln2_w": "attn_norm_2.weight",
         "ln2_b": "attn_norm_2.bias", "receptance": "time_mix_receptance.weight",
         "key": "time_mix_key.weight", "value": "time_mix_value.weight",
         "output": "time_mix_output.weight", "ln_w": "time_mix_ln.weight",
         "ln_b": "time_mix_ln.bias", "ffn_key": "channel_mix_key.weight",
         "ffn_value": "channel_mix_value.weight"}
OUTER = {"e": "token_embd.weight", "ln0_w": "token_embd_norm.weight", "ln0_b": "token_embd_norm.bias",
         "lno_w": "output_norm.weight", "lno_b": "output_norm.bias", "o": "output.weight",
         "o_b": "output.bias"}


def write(path, w, layers, head):
    out = gguf.GGUFWriter(path, "rwkv7")
    width = w["e"].shape[1]
    for key, value in (("embedding_length", width), ("block_count", layers), ("context_length", 256),
                       ("feed_forward_length", w["0.ffn_key"].shape[0]), ("wkv.head_size", head)):
        out.add_uint32(f"rwkv7.{key}", value)
    out.add_float32("rwkv7.attention.layer_norm_epsilon", 1e-5)

    def add(name, data):
        out.add_tensor(name, np.ascontiguousarray(data, dtype=np.float32))

    for key, name in OUTER.items():
        if key in w:
            add(name, w[key])
    for i in range(layers):
        p, gated = f"{i}.", f"{i}.g1" in w
        for key, name in NAMES.items():
            add(f"blk.{i}.{name}", w[p + key])
        for key in ("w1", "w2", "a1", "a2", "v1", "v2") + (("g1", "g2") if gated else ()):
            add(f"blk.{i}.time_mix_{key}.weight", w[p + key].T)
        for key in ("w0", "a0", "v0", "k_k", "k_a", "r_k"):
            add(f"blk.{i}.time_mix_{key}.weight", w[p + key].reshape(-1))
        lerp = np.stack([w[p + "x_" + c].reshape(-1) for c in "rwkvag"[:6 if gated else 5]])
        add(f"blk.{i}.time_mix_lerp_fused.weight", lerp.reshape(len(lerp), 1, 1, width))
        add(f"blk.{i}.channel_mix_lerp_k.weight", w[p + "ffn_x"].reshape(1, 1, width))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def compare(name, w, layers, head, ids):
    want = forward(w, layers, head, np.array(ids))
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, "m.gguf"), os.path.join(folder, "out")
        write(path, w, layers, head)
        for how in ("ref", "cpu"):
            for chunk in ("1", "512"):
                subprocess.run([WATT, "logits", path, "--ids", ",".join(map(str, ids)), "--out", out,
                                "--exec", how, "--chunk", chunk], check=True)
                data = open(out, "rb").read()
                n, width = struct.unpack_from("<II", data)
                got = np.frombuffer(data, "<f4", n * width, 8 + 4 * n).reshape(n, width)
                error = ((got - want) ** 2).sum() / (want ** 2).sum()
                print(f"{name}, {how}, chunks of {chunk}: NMSE {error:.2g}")
                if not error <= LIMIT[how]:
                    sys.exit(1)
    return want


def random_model(rng, gated, layers=3, width=48, head=16, vocab=50, ff=96, rank=10):
    def normal(*shape, scale=1.0):
        return (rng.normal(size=shape) * scale).astype(np.float32).astype(np.float64)

    w = {"e": normal(vocab, width), "o": normal(vocab, width, scale=0.3)}
    for key in ("ln0", "lno"):
        w[key + "_w"], w[key + "_b"] = 1 + normal(width, scale=0.1), normal(width, scale=0.1)
    for i in range(layers):
        p = f"{i}."
        for key in ("ln1", "ln2", "ln"):
            w[p + key + "_w"] = 1 + normal(width, scale=0.1)
            w[p + key + "_b"] = normal(width, scale=0.1)
        for c in "rwkvag":
            w[p + "x_" + c] = np.abs(normal(width, scale=0.5))
        for c in "wav" + ("g" if gated else ""):
            w[p + c + "1"] = normal(width, rank, scale=0.3)
            w[p + c + "2"] = normal(rank, width, scale=0.3)
            w[p + c + "0"] = normal(width)
        for key in ("k_k", "k_a", "r_k"):
            w[p + key] = normal(width, scale=0.7)
        for key in ("receptance", "key", "value", "output"):
            w[p + key] = normal(width, width, scale=0.2)
        w[p + "ffn_x"] = np.abs(normal(width, scale=0.5))
        w[p + "ffn_key"] = normal(ff, width, scale=0.2)
        w[p + "ffn_value"] = normal(width, ff, scale=0.2)
    return w


def toy_model(path):
    """The toy has no norm behind its embedding, and further parts that this variant leaves out."""
    import torch
    t = {k: v.double().numpy() for k, v in torch.load(path, map_location="cpu").items()}
    w = {"e": t["e.weight"], "lno_w": t["lno.weight"], "lno_b": t["lno.bias"], "o": t["o.weight"],
         "o_b": t["o.bias"]}
    for i in range(2):
        p, r = f"{i}.", f"rwkv{i + 1}."
        for c in "rwkvag":
            w[p + "x_" + c] = t[r + "x_" + c].reshape(-1)
        for key in ("w0", "w1", "w2", "a0", "a1", "a2", "v0", "v1", "v2", "g1", "g2", "k_k", "k_a",
                    "r_k"):
            w[p + key] = t[r + key] if key[-1] in "12" else t[r + key].reshape(-1)
        for key in ("receptance", "key", "value", "output"):
            w[p + key] = t[r + key + ".weight"]
        for key, name in (("ln1", "a"), ("ln2", "c")):
            w[p + key + "_w"] = t[f"ln{i + 1}{name}.weight"]
            w[p + key + "_b"] = t[f"ln{i + 1}{name}.bias"]
        w[p + "ln_w"], w[p + "ln_b"] = t[r + "ln_x.weight"], t[r + "ln_x.bias"]
        w[p + "ffn_x"] = t[f"ffn{i + 1}.x_k"].reshape(-1)
        w[p + "ffn_key"], w[p + "ffn_value"] = t[f"ffn{i + 1}.key.weight"], t[f"ffn{i + 1}.value.weight"]
    return w


def main():
    rng = np.random.default_rng(5)
    for gated in (True, False):
        compare("random" + (" with gate" if gated else ""), random_model(rng, gated), 3, 16,
                rng.integers(0, 50, 70).tolist())
    found = glob.glob(os.path.join(os.environ.get("WATT_SHARED", ""), "models/rwkv-tiny/*.pth"))
    try:
        toy = toy_model(found[0]) if found else None
    except ImportError:
        toy = None
    if toy is not None:
        compare("trained toy", toy, 2, 16, rng.integers(0, 12, 60).tolist())


if __name__ == "__main__":
    main()
