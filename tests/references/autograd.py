#!/usr/bin/env python3
"""Compares loss and gradients with PyTorch's autograd in float64.

Tiny models of random weights, one for each architecture that trains: Llama with
grouped heads, Qwen3 with norms of queries and keys, GPT-2, Llama with routed
experts (with and without a load-balance loss), Mamba-2 and LSTM. The forward
passes here are written from the papers' formulas. Two sequences of different
lengths lie in one batch.

TRAIN_GRADIENTS names the program under test, by default the one beside WATT.
"""
# requires: torch gguf numpy
import os
import struct
import subprocess
import sys
import tempfile

sys.path.pop(0)     # this file's folder: a file there has a package's name

try:
    import gguf
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
PROGRAM = os.environ.get("TRAIN_GRADIENTS",
                         os.path.join(os.path.dirname(WATT), "tests", "train_gradients"))
VOCAB, WIDTH, LAYERS = 61, 48, 2
LENGTHS = (19, 33)
EPS = 1e-5


class Model:
    """Tensors by GGUF name, written to a file; forward() turns ids to logits."""

    def __init__(self, arch, keys, seed=1):
        self.arch, self.keys, self.t = arch, keys, {}
        self.rng = torch.Generator().manual_seed(seed)

    def add(self, name, *shape, mean=0.0, deviation=0.1):
        data = mean + deviation * torch.randn(*shape, generator=self.rng, dtype=torch.float64)
        self.t[name] = data.float().double().requires_grad_()

    def write(self, path):
        w = gguf.GGUFWriter(path, self.arch)
        for key, value in self.keys.items():
            key = f"{self.arch}.{key}"
            if isinstance(value, float):
                w.add_float32(key, value)
            else:
                w.add_uint32(key, value)
        for name, data in self.t.items():
            w.add_tensor(name, np.ascontiguousarray(data.detach().float().numpy()))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()

    def at(self, layer):
        return lambda name: self.t[f"blk.{layer}.{name}"]

    def loss(self, ids):
        total, balance = 0, 0
        self.routed = []
        for s in ids:
            total = total + F.cross_entropy(self.forward(s)[:-1], s[1:], reduction="sum")
        return total, balance


def rms(x, gain):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * gain


def rope(x, base=10000.0, neox=False):
    """x: [n, heads, d]"""
    n, _, d = x.shape
    angle = torch.arange(n, dtype=torch.float64)[:, None] * base ** (
        -torch.arange(0, d, 2, dtype=torch.float64) / d)
    c, s = angle.cos()[:, None], angle.sin()[:, None]
    if neox:
        a, b = x[..., :d // 2], x[..., d // 2:]
        return torch.cat((a * c - b * s, a * s + b * c), -1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * c - b * s, a * s + b * c), -1).flatten(-2)


def attend(q, k, v):
    """[n, heads, d]; keys and values of grouped heads are repeated."""
    n, heads, d = q.shape
    k, v = (t.repeat_interleave(heads // t.shape[1], 1) for t in (k, v))
    score = torch.einsum("ihd,jhd->hij", q, k) / d ** 0.5
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    weight = score.masked_fill(~mask, -torch.inf).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weight, v).reshape(n, heads * d)


def decoder_keys(**more):
    return {"block_count": LAYERS, "embedding_length": WIDTH, "feed_forward_length": 64,
            "context_length": 128, "attention.head_count": 4, "attention.head_count_kv": 2,
            "attention.layer_norm_rms_epsilon": EPS, "vocab_size": VOCAB, **more}


class Llama(Model):
    def __init__(self, arch="llama", experts=0, head=WIDTH // 4, **more):
        keys = decoder_keys(**{"rope.freq_base": 10000.0}, **more)
        if experts:
            keys |= {"expert_count": experts, "expert_used_count": 2}
        super().__init__(arch, keys)
        self.head, self.experts, self.norms = head, experts, arch == "qwen3"
        if not experts and not self.norms:
            self.add("output.weight", VOCAB, WIDTH)     # else tied
        self.add("token_embd.weight", VOCAB, WIDTH)
        self.add("output_norm.weight", WIDTH, mean=1)
        for i in range(LAYERS):
            b = f"blk.{i}."
            self.add(b + "attn_norm.weight", WIDTH, mean=1)
            self.add(b + "attn_q.weight", 4 * head, WIDTH)
            self.add(b + "attn_k.weight", 2 * head, WIDTH)
            self.add(b + "attn_v.weight", 2 * head, WIDTH)
            self.add(b + "attn_output.weight", WIDTH, 4 * head)
            self.add(b + "ffn_norm.weight", WIDTH, mean=1)
            if self.norms:
                self.add(b + "attn_q_norm.weight", head, mean=1)
                self.add(b + "attn_k_norm.weight", head, mean=1)
            shape = (experts,) if experts else ()
            end = "_exps.weight" if experts else ".weight"
            if experts:
                self.add(b + "ffn_gate_inp.weight", experts, WIDTH, deviation=0.5)
            self.add(b + "ffn_gate" + end, *shape, 64, WIDTH)
            self.add(b + "ffn_up" + end, *shape, 64, WIDTH)
            self.add(b + "ffn_down" + end, *shape, WIDTH, 64)

    def feed_forward(self, w, x):
        if not self.experts:
            return (F.silu(x @ w("ffn_gate.weight").T) * (x @ w("ffn_up.weight").T)
                    ) @ w("ffn_down.weight").T
        p = (x @ w("ffn_gate_inp.weight").T).softmax(-1)
        top, ids = p.topk(2, -1)
        self.routed.append((p, ids))
        top = top / top.sum(-1, keepdim=True)
        y = torch.zeros_like(x)
        for e in range(self.experts):
            h = F.silu(x @ w("ffn_gate_exps.weight")[e].T) * (x @ w("ffn_up_exps.weight")[e].T)
            y = y + (top * (ids == e)).sum(-1, keepdim=True) * (h @ w("ffn_down_exps.weight")[e].T)
        return y

    def forward(self, ids):
        n = len(ids)
        x = self.t["token_embd.weight"][ids]
        for i in range(LAYERS):
            w = self.at(i)
            y = rms(x, w("attn_norm.weight"))
            q = (y @ w("attn_q.weight").T).view(n, 4, self.head)
            k = (y @ w("attn_k.weight").T).view(n, 2, self.head)
            v = (y @ w("attn_v.weight").T).view(n, 2, self.head)
            if self.norms:
                q, k = rms(q, w("attn_q_norm.weight")), rms(k, w("attn_k_norm.weight"))
            y = attend(rope(q, neox=self.norms), rope(k, neox=self.norms), v)
            x = x + y @ w("attn_output.weight").T
            x = x + self.feed_forward(w, rms(x, w("ffn_norm.weight")))
        x = rms(x, self.t["output_norm.weight"])
        return x @ self.t.get("output.weight", self.t["token_embd.weight"]).T


class Gpt2(Model):
    def __init__(self):
        super().__init__("gpt2", {
            "block_count": LAYERS, "embedding_length": WIDTH, "feed_forward_length": 4 * WIDTH,
            "context_length": 64, "attention.head_count": 4,
            "attention.layer_norm_epsilon": EPS, "vocab_size": VOCAB})
        self.add("token_embd.weight", VOCAB, WIDTH)
        self.add("position_embd.weight", 64, WIDTH)
        self.norm("output_norm")
        for i in range(LAYERS):
            b = f"blk.{i}."
            self.norm(b + "attn_norm")
            self.norm(b + "ffn_norm")
            self.linear(b + "attn_qkv", 3 * WIDTH, WIDTH)
            self.linear(b + "attn_output", WIDTH, WIDTH)
            self.linear(b + "ffn_up", 4 * WIDTH, WIDTH)
            self.linear(b + "ffn_down", WIDTH, 4 * WIDTH)

    def norm(self, name):
        self.add(name + ".weight", WIDTH, mean=1)
        self.add(name + ".bias", WIDTH)

    def linear(self, name, rows, cols):
        self.add(name + ".weight", rows, cols)
        self.add(name + ".bias", rows)

    def forward(self, ids):
        n = len(ids)
        x = self.t["token_embd.weight"][ids] + self.t["position_embd.weight"][:n]
        for i in range(LAYERS):
            w = self.at(i)
            line = lambda name, y: F.linear(y, w(name + ".weight"), w(name + ".bias"))
            norm = lambda name, y: F.layer_norm(y, (WIDTH,), w(name + ".weight"),
                                                w(name + ".bias"), EPS)
            q, k, v = line("attn_qkv", norm("attn_norm", x)).view(n, 3, 4, WIDTH // 4).unbind(1)
            x = x + line("attn_output", attend(q, k, v))
            x = x + line("ffn_down", F.gelu(line("ffn_up", norm("ffn_norm", x)),
                                            approximate="tanh"))
        x = F.layer_norm(x, (WIDTH,), self.t["output_norm.weight"], self.t["output_norm.bias"],
                         EPS)
        return x @ self.t["token_embd.weight"].T


class Mamba2(Model):
    INNER, STATE, HEADS, GROUPS, TAPS = 96, 16, 6, 2, 4

    def __init__(self):
        super().__init__("mamba2", {
            "block_count": LAYERS, "embedding_length": WIDTH, "feed_forward_length": 0,
            "context_length": 128, "attention.head_count": 0,
            "attention.layer_norm_rms_epsilon": EPS, "vocab_size": VOCAB,
            "ssm.conv_kernel": self.TAPS, "ssm.inner_size": self.INNER,
            "ssm.state_size": self.STATE, "ssm.time_step_rank": self.HEADS,
            "ssm.group_count": self.GROUPS})
        conv = self.INNER + 2 * self.GROUPS * self.STATE
        self.add("token_embd.weight", VOCAB, WIDTH, deviation=0.5)
        self.add("output_norm.weight", WIDTH, mean=1)
        for i in range(LAYERS):
            b = f"blk.{i}."
            self.add(b + "attn_norm.weight", WIDTH, mean=1)
            self.add(b + "ssm_in.weight", self.INNER + conv + self.HEADS, WIDTH)
            self.add(b + "ssm_conv1d.weight", conv, self.TAPS, deviation=0.4)
            self.add(b + "ssm_conv1d.bias", conv)
            self.add(b + "ssm_dt.bias", self.HEADS)
            self.add(b + "ssm_a", self.HEADS, 1, mean=-0.8)
            self.add(b + "ssm_d", self.HEADS, 1, mean=1)
            self.add(b + "ssm_norm.weight", self.GROUPS, self.INNER // self.GROUPS, mean=1)
            self.add(b + "ssm_out.weight", WIDTH, self.INNER)

    def scan(self, x, dt, b, c, a, d):
        state = torch.zeros(self.HEADS, self.INNER // self.HEADS, self.STATE, dtype=torch.float64)
        out = []
        rep = self.HEADS // self.GROUPS
        for t in range(len(x)):
            bt, ct = (z[t].repeat_interleave(rep, 0) for z in (b, c))
            state = (torch.exp(dt[t] * a)[:, None, None] * state +
                     (dt[t][:, None] * x[t])[..., None] * bt[:, None])
            out.append((state * ct[:, None]).sum(-1) + d[:, None] * x[t])
        return torch.stack(out)

    def forward(self, ids):
        n, conv = len(ids), self.INNER + 2 * self.GROUPS * self.STATE
        x = self.t["token_embd.weight"][ids]
        for i in range(LAYERS):
            w = self.at(i)
            z, u, dt = (rms(x, w("attn_norm.weight")) @ w("ssm_in.weight").T).split(
                [self.INNER, conv, self.HEADS], -1)
            u = F.pad(u.T, (self.TAPS - 1, 0))[None]
            u = F.silu(F.conv1d(u, w("ssm_conv1d.weight")[:, None], w("ssm_conv1d.bias"),
                                groups=conv)[0].T)
            v, b, c = u.split([self.INNER] + 2 * [self.GROUPS * self.STATE], -1)
            y = self.scan(v.view(n, self.HEADS, -1), F.softplus(dt + w("ssm_dt.bias")),
                          b.view(n, self.GROUPS, -1), c.view(n, self.GROUPS, -1),
                          w("ssm_a")[:, 0], w("ssm_d")[:, 0]).reshape(n, -1)
            y = (y * F.silu(z)).view(n, self.GROUPS, -1)
            x = x + rms(y, w("ssm_norm.weight")).reshape(n, -1) @ w("ssm_out.weight").T
        x = rms(x, self.t["output_norm.weight"])
        return x @ self.t["token_embd.weight"].T


class Lstm(Model):
    def __init__(self):
        super().__init__("lstm", {
            "block_count": LAYERS, "embedding_length": WIDTH, "context_length": 128,
            "feed_forward_length": 0, "attention.head_count": 0, "vocab_size": VOCAB})
        self.add("token_embd.weight", VOCAB, WIDTH, deviation=0.5)
        self.add("output.weight", VOCAB, WIDTH)
        self.add("output.bias", VOCAB)
        for i in range(LAYERS):
            b = f"blk.{i}."
            self.add(b + "cell_x.weight", 4 * WIDTH, WIDTH)
            self.add(b + "cell_x.bias", 4 * WIDTH)
            self.add(b + "cell_h.weight", 4 * WIDTH, WIDTH)
            self.add(b + "cell_h.bias", 4 * WIDTH)

    def forward(self, ids):
        x = self.t["token_embd.weight"][ids]
        for i in range(LAYERS):
            w = self.at(i)
            h = c = torch.zeros(WIDTH, dtype=torch.float64)
            out = []
            for t in range(len(ids)):
                g = (F.linear(x[t], w("cell_x.weight"), w("cell_x.bias")) +
                     F.linear(h, w("cell_h.weight"), w("cell_h.bias"))).view(4, WIDTH)
                c = g[1].sigmoid() * c + g[0].sigmoid() * g[2].tanh()
                h = g[3].sigmoid() * c.tanh()
                out.append(h)
            x = torch.stack(out)
        return F.linear(x, self.t["output.weight"], self.t["output.bias"])


def run(model, ids, balance, compute):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        model.write(path)
        out = path + ".out"
        subprocess.run([PROGRAM, path, out, compute, str(balance), ",".join(map(str, LENGTHS)),
                        ",".join(str(int(i)) for s in ids for i in s)], check=True)
        with open(out, "rb") as f:
            data = f.read()
    loss, balanced = struct.unpack_from("<dd", data)
    at, grads = 16, {}
    while at < len(data):
        n = struct.unpack_from("<I", data, at)[0]
        name = data[at + 4:at + 4 + n].decode()
        at += 4 + n
        n = struct.unpack_from("<Q", data, at)[0]
        grads[name] = np.frombuffer(data, "<f4", n, at + 8).astype(np.float64)
        at += 8 + 4 * n
    return loss, balanced, grads


def check(name, model, balance=0.0):
    rng = torch.Generator().manual_seed(7)
    ids = [torch.randint(0, VOCAB, (n,), generator=rng) for n in LENGTHS]
    loss, _ = model.loss(ids)
    all_rows = sum(n - 1 for n in LENGTHS)
    total, balanced = loss, 0
    if balance:
        # a router sees the rows of both sequences; the last layer's only those with a target
        half = len(model.routed) // len(LENGTHS)
        for i in range(half):
            rows = [model.routed[i + k * half] for k in range(len(LENGTHS))]
            if i == half - 1:
                rows = [(p[:-1], e[:-1]) for p, e in rows]
            p = torch.cat([r[0] for r in rows])
            e = torch.cat([r[1] for r in rows])
            share = torch.stack([(e == x).sum() for x in range(model.experts)]) / e.numel()
            balanced = balanced + balance * model.experts * (share * p.mean(0)).sum()
        total = loss + all_rows * balanced
    total.backward()
    for compute, limit in (("f32", 2e-5), ("bf16", 0.05)):
        got, got_balance, grads = run(model, ids, balance, compute)
        worst = abs(got - float(loss.detach())) / float(loss.detach())
        assert worst < limit, (name, compute, got, float(loss.detach()))
        if balance:
            assert abs(got_balance - float(balanced.detach())) < limit * got_balance
        assert set(grads) == set(model.t), set(model.t) ^ set(grads)
        for key, data in model.t.items():
            want = data.grad.numpy().ravel()
            error = np.linalg.norm(grads[key] - want) / np.linalg.norm(want)
            worst = max(worst, error)
            assert error < limit, (name, compute, key, error)
        print(f"{name:12} {compute:5} loss {got:10.4f}, gradients within {worst:.1e}")


check("llama", Llama())
check("qwen3", Llama("qwen3", head=16, **{"attention.key_length": 16,
                                          "attention.value_length": 16}))
check("gpt2", Gpt2())
check("experts", Llama(experts=4))
check("balance", Llama(experts=4), 0.02)
check("mamba2", Mamba2())
check("lstm", Lstm())
