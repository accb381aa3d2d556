#!/usr/bin/env python3
"""Compares encoders with transformers: hidden states, and a cross-encoder's scores.

Tiny random models of transformers' own classes are written to GGUF under the
names that format has for their tensors, and the last hidden state of each token
is compared: `watt logits` against the model in float64. BERT, RoBERTa,
ModernBERT, T5 (plain and gated), EmbeddingGemma (Gemma 3 read both ways),
EuroBERT, Nomic BERT and jina-v3; several lengths, windows and distances shorter
than the text among them. What transformers has no class for is written here from
papers and published model code: Nomic's experts, NeoBERT and jina-v2.
Then `watt embed --rerank` against a classifier over pairs.

WATT names the program under test.
"""
# requires: torch transformers gguf numpy
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
    import transformers as tf
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
LIMIT = 1e-5        # of the largest value
VOCAB = 90


class Writer:
    """A GGUF file of F32 tensors; names map from the model's, others are dropped on purpose."""

    def __init__(self, path, arch, keys):
        self.w = gguf.GGUFWriter(path, arch)
        self.arch = arch
        for key, value in keys.items():
            self.key(f"{arch}.{key}", value)

    def key(self, name, value):
        if isinstance(value, bool):
            self.w.add_bool(name, value)
        elif isinstance(value, int):
            self.w.add_uint32(name, value)
        elif isinstance(value, float):
            self.w.add_float32(name, value)
        elif isinstance(value, str):
            self.w.add_string(name, value)
        else:
            self.w.add_array(name, value)

    def tensor(self, name, data):
        self.w.add_tensor(name, np.ascontiguousarray(data.detach().float().numpy()))

    def close(self):
        self.w.write_header_to_file()
        self.w.write_kv_data_to_file()
        self.w.write_tensors_to_file()
        self.w.close()


def keys_of(c, **more):
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    return {"block_count": c.num_hidden_layers, "embedding_length": c.hidden_size,
            "feed_forward_length": c.intermediate_size, "context_length": 256,
            "attention.head_count": c.num_attention_heads, "attention.head_count_kv": heads, **more}


def write(path, arch, keys, model, names, change=None, extra=None):
    """names: our name by the model's, with {} for the layer; change(name, tensor) may edit."""
    w = Writer(path, arch, keys)
    for key, value in (extra or {}).items():
        w.key(key, value)
    seen = set()
    for name, data in model.state_dict().items():
        parts = name.split(".")
        layer = next((p for p in parts if p.isdigit()), None)
        pattern = ".".join("{}" if p == layer else p for p in parts)
        stem, _, kind = pattern.rpartition(".")
        if stem not in names:
            continue
        seen.add(stem)
        data = change(stem, data) if change else data
        for ours, part in names[stem](data) if callable(names[stem]) else [(names[stem], data)]:
            w.tensor(f"{ours.format(layer)}.{kind}", part)
    missing = [n for n in names if n not in seen]
    assert not missing, (arch, missing)
    w.close()


def run(path, ids, *more):
    out = path + ".out"
    subprocess.run([WATT, "logits", path, "--ids", ",".join(map(str, ids)), "-o", out,
                    "--kv", "f32", *more], check=True)
    with open(out, "rb") as f:
        n, width = struct.unpack("<II", f.read(8))
        f.seek(4 * n, 1)
        return np.frombuffer(f.read(), dtype="<f4").reshape(n, width)


def compare(name, path, model, lengths=(1, 2, 7, 40, 129), **inputs):
    worst = 0.0
    model = model.double().eval()
    for n in lengths:
        ids = torch.randint(3, VOCAB, (1, n), generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            want = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs)
        want = (want if torch.is_tensor(want) else want.last_hidden_state)[0].numpy()
        for kind in ("ref", "cpu"):
            # the reference executor keeps the tanh GELU in half precision on purpose
            if kind == "ref" and name in HALF_GELU:
                continue
            got = run(path, ids[0].tolist(), "--exec", kind)
            error = np.abs(got - want).max() / np.abs(want).max()
            worst = max(worst, error)
            assert got.shape == want.shape and error <= LIMIT, (name, kind, n, error)
    print(f"{name}: {worst:.1e}")


HALF_GELU = {"T5 gated", "EmbeddingGemma"}


def random_weights(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.copy_(torch.randn(p.shape, generator=g) * (1.2 / p.shape[-1] ** 0.5))
            elif "bias" in name:
                p.copy_(torch.randn(p.shape, generator=g) * 0.2)
            else:
                p.copy_(1 + 0.3 * torch.randn(p.shape, generator=g))
    return model


BERT_LAYER = {
    "encoder.layer.{}.attention.self.query": "blk.{}.attn_q",
    "encoder.layer.{}.attention.self.key": "blk.{}.attn_k",
    "encoder.layer.{}.attention.self.value": "blk.{}.attn_v",
    "encoder.layer.{}.attention.output.dense": "blk.{}.attn_output",
    "encoder.layer.{}.attention.output.LayerNorm": "blk.{}.attn_output_norm",
    "encoder.layer.{}.intermediate.dense": "blk.{}.ffn_up",
    "encoder.layer.{}.output.dense": "blk.{}.ffn_down",
    "encoder.layer.{}.output.LayerNorm": "blk.{}.layer_output_norm",
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "embeddings.position_embeddings": "position_embd",
}
SIZE = dict(vocab_size=VOCAB, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=80)


def bert(path):
    c = tf.BertConfig(**SIZE, max_position_embeddings=256)
    m = random_weights(tf.BertModel(c, add_pooling_layer=False), 1)
    write(path, "bert", keys_of(c, **{"attention.layer_norm_epsilon": c.layer_norm_eps,
                                      "attention.causal": False}), m, BERT_LAYER)
    compare("BERT", path, m)


def roberta(path):
    c = tf.RobertaConfig(**SIZE, max_position_embeddings=258, pad_token_id=1, type_vocab_size=1)
    m = random_weights(tf.RobertaModel(c, add_pooling_layer=False), 2)
    write(path, "bert", keys_of(c, **{"attention.layer_norm_epsilon": c.layer_norm_eps}), m,
          BERT_LAYER, lambda stem, d: d[2:] if "position" in stem else d)
    compare("RoBERTa", path, m)


def modern_bert(path):
    c = tf.ModernBertConfig(**SIZE | {"num_hidden_layers": 4}, max_position_embeddings=256,
                            local_attention=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                            cls_token_id=1, sep_token_id=2, global_attn_every_n_layers=3)
    c._attn_implementation = "eager"
    m = random_weights(tf.ModernBertModel(c), 3)
    theta = {k: v["rope_theta"] for k, v in c.rope_parameters.items()}
    write(path, "modern-bert", keys_of(c, **{
        "attention.layer_norm_epsilon": c.norm_eps, "attention.sliding_window": 16,
        "attention.sliding_window_pattern": 3, "rope.freq_base": theta["full_attention"],
        "rope.freq_base_swa": theta["sliding_attention"], "hidden_activation": "gelu",
    }), m, {
        "embeddings.tok_embeddings": "token_embd", "embeddings.norm": "token_embd_norm",
        "layers.{}.attn_norm": "blk.{}.attn_norm", "layers.{}.attn.Wqkv": "blk.{}.attn_qkv",
        "layers.{}.attn.Wo": "blk.{}.attn_output", "layers.{}.mlp_norm": "blk.{}.ffn_norm",
        "layers.{}.mlp.Wi": "blk.{}.ffn_up", "layers.{}.mlp.Wo": "blk.{}.ffn_down",
        "final_norm": "output_norm",
    })
    compare("ModernBERT", path, m)


def t5(path, gated):
    c = tf.T5Config(vocab_size=VOCAB, d_model=48, d_kv=16, d_ff=80, num_layers=3, num_heads=4,
                    feed_forward_proj="gated-gelu" if gated else "relu")
    m = random_weights(tf.T5EncoderModel(c), 4)
    block = "encoder.block.{}.layer"
    names = {"shared": "token_embd", "encoder.final_layer_norm": "enc.output_norm"}
    # the layer's number comes first, that of the part second: written out by hand
    w = Writer(path, "t5encoder", {
        "block_count": 3, "embedding_length": 48, "feed_forward_length": 80, "context_length": 256,
        "attention.head_count": 4, "attention.key_length": 16, "attention.value_length": 16,
        "attention.layer_norm_rms_epsilon": c.layer_norm_epsilon,
        "attention.relative_buckets_count": c.relative_attention_num_buckets})
    state = m.state_dict()
    for theirs, ours in names.items():
        w.tensor(ours + ".weight", state[theirs + ".weight"])
    for i in range(3):
        at = block.format(i)
        parts = {"0.SelfAttention.q": "attn_q", "0.SelfAttention.k": "attn_k",
                 "0.SelfAttention.v": "attn_v", "0.SelfAttention.o": "attn_o",
                 "0.layer_norm": "attn_norm", "1.layer_norm": "ffn_norm",
                 "1.DenseReluDense.wo": "ffn_down"}
        if i == 0:
            parts["0.SelfAttention.relative_attention_bias"] = "attn_rel_b"
        parts |= {"1.DenseReluDense.wi_0": "ffn_gate", "1.DenseReluDense.wi_1": "ffn_up"} \
            if gated else {"1.DenseReluDense.wi": "ffn_up"}
        for theirs, ours in parts.items():
            w.tensor(f"enc.blk.{i}.{ours}.weight", state[f"{at}.{theirs}.weight"])
    w.close()
    compare("T5 gated" if gated else "T5", path, m)


def gemma(path):
    c = tf.Gemma3TextConfig(**SIZE | {"num_hidden_layers": 7}, num_key_value_heads=2, head_dim=16,
                            max_position_embeddings=256, sliding_window=16,
                            query_pre_attn_scalar=16, use_bidirectional_attention=True)
    c._attn_implementation = "eager"
    m = random_weights(tf.Gemma3TextModel(c), 5)
    theta = {k: v["rope_theta"] for k, v in c.rope_parameters.items()}
    layer = "layers.{}."
    write(path, "gemma-embedding", keys_of(c, **{
        "attention.layer_norm_rms_epsilon": c.rms_norm_eps, "attention.key_length": 16,
        "attention.value_length": 16, "attention.sliding_window": 16,
        "rope.freq_base": theta["full_attention"],
        "rope.freq_base_swa": theta["sliding_attention"],
    }), m, {
        "embed_tokens": "token_embd", "norm": "output_norm",
        layer + "self_attn.q_proj": "blk.{}.attn_q", layer + "self_attn.k_proj": "blk.{}.attn_k",
        layer + "self_attn.v_proj": "blk.{}.attn_v",
        layer + "self_attn.o_proj": "blk.{}.attn_output",
        layer + "self_attn.q_norm": "blk.{}.attn_q_norm",
        layer + "self_attn.k_norm": "blk.{}.attn_k_norm",
        layer + "input_layernorm": "blk.{}.attn_norm",
        layer + "post_attention_layernorm": "blk.{}.post_attention_norm",
        layer + "pre_feedforward_layernorm": "blk.{}.ffn_norm",
        layer + "post_feedforward_layernorm": "blk.{}.post_ffw_norm",
        layer + "mlp.gate_proj": "blk.{}.ffn_gate", layer + "mlp.up_proj": "blk.{}.ffn_up",
        layer + "mlp.down_proj": "blk.{}.ffn_down",
    }, lambda stem, d: d + 1 if "norm" in stem else d)
    compare("EmbeddingGemma", path, m)


def eurobert(path):
    c = tf.EuroBertConfig(**SIZE, num_key_value_heads=2, max_position_embeddings=256,
                          pad_token_id=0, bos_token_id=1, eos_token_id=2)
    c._attn_implementation = "eager"
    m = random_weights(tf.EuroBertModel(c), 6)
    layer = "layers.{}."
    write(path, "eurobert", keys_of(c, **{
        "attention.layer_norm_rms_epsilon": c.rms_norm_eps,
        "rope.freq_base": float(c.rope_parameters["rope_theta"]),
    }), m, {
        "embed_tokens": "token_embd", "norm": "output_norm",
        layer + "self_attn.q_proj": "blk.{}.attn_q", layer + "self_attn.k_proj": "blk.{}.attn_k",
        layer + "self_attn.v_proj": "blk.{}.attn_v",
        layer + "self_attn.o_proj": "blk.{}.attn_output",
        layer + "input_layernorm": "blk.{}.attn_norm",
        layer + "post_attention_layernorm": "blk.{}.ffn_norm",
        layer + "mlp.gate_proj": "blk.{}.ffn_gate", layer + "mlp.up_proj": "blk.{}.ffn_up",
        layer + "mlp.down_proj": "blk.{}.ffn_down",
    })
    compare("EuroBERT", path, m)


def kin_of_bert(path, name, arch, model, mlp, **keys):
    """The classes of transformers that have BERT's layers with rotary positions."""
    c, layer = model.config, "layers.{}."
    write(path, arch, keys_of(c, **{
        "attention.layer_norm_epsilon": c.layer_norm_eps,
        "rope.freq_base": float(c.rope_parameters["rope_theta"]), **keys,
    }), model, {
        "embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
        "embeddings.LayerNorm": "token_embd_norm",
        layer + "self_attn.q_proj": "blk.{}.attn_q", layer + "self_attn.k_proj": "blk.{}.attn_k",
        layer + "self_attn.v_proj": "blk.{}.attn_v",
        layer + "self_attn.o_proj": "blk.{}.attn_output",
        layer + "post_attention_layernorm": "blk.{}.attn_output_norm",
        layer + "post_mlp_layernorm": "blk.{}.layer_output_norm",
    } | {layer + "mlp." + k: "blk.{}." + v for k, v in mlp.items()})
    compare(name, path, model)


def nomic(path):
    c = tf.NomicBertConfig(**SIZE, max_position_embeddings=256)
    c._attn_implementation = "eager"
    kin_of_bert(path, "Nomic BERT", "nomic-bert", random_weights(tf.NomicBertModel(c), 9),
                {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"})


def jina_v3(path):
    c = tf.JinaEmbeddingsV3Config(**SIZE, max_position_embeddings=256, pad_token_id=0)
    c._attn_implementation = "eager"
    kin_of_bert(path, "jina-v3", "jina-bert-v3",
                random_weights(tf.JinaEmbeddingsV3Model(c, add_pooling_layer=False), 10),
                {"fc1": "ffn_up", "fc2": "ffn_down"})


# ---- written from papers and published model code ----

nn, F = torch.nn, torch.nn.functional
WIDTH, FF, LAYERS = SIZE["hidden_size"], SIZE["intermediate_size"], SIZE["num_hidden_layers"]


def attend(q, k, v, n_heads, bias=0):
    """[tokens, width] each, both ways."""
    q, k, v = (x.view(len(x), n_heads, -1).transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + bias
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(q.shape[1], -1)


def turned(x, n_heads, theta, halves):
    """Rotary positions on pairs of neighbours, or of columns half a head apart."""
    n, d = len(x), x.shape[-1] // n_heads
    angle = torch.outer(torch.arange(n).double(), theta ** (-torch.arange(0, d, 2).double() / d))
    x = x.view(n, n_heads, 2, d // 2) if halves else x.view(n, n_heads, d // 2, 2).transpose(2, 3)
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    y = torch.view_as_real(torch.complex(x[:, :, 0], x[:, :, 1]) * turn)
    return (y.transpose(2, 3) if halves else y).reshape(n, -1)


class Ours(nn.Module):
    """Linear layers and norms by GGUF's names, so that they are written as they are."""

    def linear(self, name, n_in, n_out, bias):
        self.add_module(name.replace(".", "/"), nn.Linear(n_in, n_out, bias=bias))

    def norm(self, name, rms=False):
        self.add_module(name.replace(".", "/"), nn.RMSNorm(WIDTH, 1e-6) if rms else nn.LayerNorm(WIDTH, 1e-12))

    def table(self, name, rows):
        self.add_module(name.replace(".", "/"), nn.Embedding(rows, WIDTH))

    def at(self, name):
        return self.get_submodule(name.replace(".", "/"))

    def forward(self, input_ids, attention_mask):
        return self.run(input_ids[0])[None]

    def write(self, path, arch, change=None, **keys):
        w = Writer(path, arch, {"block_count": LAYERS, "embedding_length": WIDTH, "context_length": 256,
                                "feed_forward_length": FF, "attention.head_count": self.heads, **keys})
        for name, data in self.state_dict().items():
            name = name.replace("/", ".")
            for ours, part in change(name, data) if change else [(name, data)]:
                w.tensor(ours, part)
        w.close()


class Neo(Ours):
    """NeoBERT: a matrix that gives q, k and v of one head after the other; neighbours turn; SwiGLU."""

    heads = 4

    def __init__(self):
        super().__init__()
        self.table("token_embd", VOCAB)
        for i in range(LAYERS):
            self.linear(f"blk.{i}.attn_qkv", WIDTH, 3 * WIDTH, False)
            self.linear(f"blk.{i}.attn_output", WIDTH, WIDTH, False)
            self.linear(f"blk.{i}.ffn_up", WIDTH, 2 * FF, False)
            self.linear(f"blk.{i}.ffn_down", FF, WIDTH, False)
            self.norm(f"blk.{i}.attn_norm", True)
            self.norm(f"blk.{i}.ffn_norm", True)
        self.norm("enc.output_norm", True)

    def run(self, ids):
        x = self.at("token_embd")(ids)
        for i in range(LAYERS):
            y = self.at(f"blk.{i}.attn_qkv")(self.at(f"blk.{i}.attn_norm")(x))
            q, k, v = (t.reshape(len(ids), -1) for t in y.view(len(ids), self.heads, -1).chunk(3, -1))
            q, k = (turned(t, self.heads, 10000.0, False) for t in (q, k))
            x = x + self.at(f"blk.{i}.attn_output")(attend(q, k, v, self.heads))
            gate, up = self.at(f"blk.{i}.ffn_up")(self.at(f"blk.{i}.ffn_norm")(x)).chunk(2, -1)
            x = x + self.at(f"blk.{i}.ffn_down")(F.silu(gate) * up)
        return self.at("enc.output_norm")(x)


class Bert(Ours):
    """BERT's layers: norms behind each sum."""

    heads, bias = 4, True

    def __init__(self):
        super().__init__()
        self.table("token_embd", VOCAB)
        self.table("token_types", 2)
        self.norm("token_embd_norm")
        for i in range(LAYERS):
            self.attention_parts(i)
            self.feed_forward_parts(i)
            self.linear(f"blk.{i}.attn_output", WIDTH, WIDTH, True)
            self.norm(f"blk.{i}.attn_output_norm")
            self.norm(f"blk.{i}.layer_output_norm")

    def attention_parts(self, i):
        for part in "qkv":
            self.linear(f"blk.{i}.attn_{part}", WIDTH, WIDTH, True)

    def behind_attention(self, i, x, y):
        return self.at(f"blk.{i}.attn_output_norm")(x + y)

    def run(self, ids):
        x = self.at("token_embd_norm")(self.at("token_embd")(ids) + self.at("token_types").weight[0])
        for i in range(LAYERS):
            x = self.behind_attention(i, x, self.at(f"blk.{i}.attn_output")(self.attention(i, x)))
            x = self.at(f"blk.{i}.layer_output_norm")(x + self.feed_forward(i, x))
        return x


class NomicExperts(Bert):
    """Nomic's second: experts in every other layer, whose weights are not made to sum to 1."""

    experts, used = 5, 2

    def attention_parts(self, i):
        self.linear(f"blk.{i}.attn_qkv", WIDTH, 3 * WIDTH, True)

    def feed_forward_parts(self, i):
        if i % 2:
            self.linear(f"blk.{i}.ffn_gate_inp", WIDTH, self.experts, False)
            for name, shape in (("up", (FF, WIDTH)), ("down", (WIDTH, FF))):
                self.register_parameter(f"blk/{i}/ffn_{name}_exps/weight",
                                        nn.Parameter(torch.zeros(self.experts, *shape)))
        else:
            self.linear(f"blk.{i}.ffn_up", WIDTH, FF, True)
            self.linear(f"blk.{i}.ffn_down", FF, WIDTH, True)

    def attention(self, i, x):
        q, k, v = self.at(f"blk.{i}.attn_qkv")(x).chunk(3, -1)
        return attend(turned(q, self.heads, 1000.0, True), turned(k, self.heads, 1000.0, True), v, self.heads)

    def feed_forward(self, i, x):
        if i % 2 == 0:
            return self.at(f"blk.{i}.ffn_down")(F.gelu(self.at(f"blk.{i}.ffn_up")(x)))
        weight, expert = self.at(f"blk.{i}.ffn_gate_inp")(x).softmax(-1).topk(self.used, -1)
        up, down = (getattr(self, f"blk/{i}/ffn_{n}_exps/weight") for n in ("up", "down"))
        y = torch.einsum("nkfw,nw->nkf", up[expert], x)
        return torch.einsum("nkwf,nkf,nk->nw", down[expert], F.gelu(y), weight)


class JinaV2(Bert):
    """jina-v2: no positions but ALiBi on both sides, GEGLU whose first half gates."""

    heads = 6       # no power of two: slopes in between

    def feed_forward_parts(self, i):
        self.linear(f"blk.{i}.ffn_up", WIDTH, 2 * FF, False)
        self.linear(f"blk.{i}.ffn_down", FF, WIDTH, True)

    def qk(self, i, x):
        return [self.at(f"blk.{i}.attn_{part}")(x) for part in "qk"]

    def attention(self, i, x):
        slopes = [2 ** (-2.0 * (h + 1)) for h in range(4)] + [2 ** (-1.0 * (2 * h + 1)) for h in range(2)]
        at = torch.arange(len(x)).double()
        bias = -torch.tensor(slopes).double()[:, None, None] * (at[:, None] - at[None]).abs()
        return attend(*self.qk(i, x), self.at(f"blk.{i}.attn_v")(x), self.heads, bias)

    def feed_forward(self, i, x):
        gate, up = self.at(f"blk.{i}.ffn_up")(x).chunk(2, -1)
        return self.at(f"blk.{i}.ffn_down")(F.gelu(gate) * up)


class JinaV2Code(JinaV2):
    """jina-v2 for code: norms of queries and keys, a second sum and norm behind attention, and the
    second half of GEGLU gates."""

    def attention_parts(self, i):
        super().attention_parts(i)
        for name in ("attn_q_norm", "attn_k_norm", "attn_norm_2"):
            self.norm(f"blk.{i}.{name}")

    def qk(self, i, x):
        return [self.at(f"blk.{i}.attn_{part}_norm")(y) for part, y in zip("qk", super().qk(i, x))]

    def behind_attention(self, i, x, y):
        return self.at(f"blk.{i}.attn_norm_2")(x + super().behind_attention(i, x, y))

    def feed_forward(self, i, x):
        up, gate = self.at(f"blk.{i}.ffn_up")(x).chunk(2, -1)
        return self.at(f"blk.{i}.ffn_down")(up * F.gelu(gate))


def two_matrices(name, data):
    """As older files have it: the gate apart."""
    if "ffn_up" not in name:
        return [(name, data)]
    return [(name, data[:FF]), (name.replace("ffn_up", "ffn_gate"), data[FF:])]


def written(path):
    norms = {"attention.layer_norm_epsilon": 1e-12}
    m = random_weights(Neo(), 11)
    m.write(path, "neo-bert", **{"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0})
    compare("NeoBERT", path, m)
    m = random_weights(NomicExperts(), 12)
    m.write(path, "nomic-bert-moe", **norms, **{"rope.freq_base": 1000.0, "expert_count": m.experts,
                                               "expert_used_count": m.used, "moe_every_n_layers": 2})
    compare("Nomic BERT, experts", path, m)
    m = random_weights(JinaV2(), 13)
    m.write(path, "jina-bert-v2", **norms)
    compare("jina-v2", path, m)
    m = random_weights(JinaV2Code(), 14)
    m.write(path, "jina-bert-v2", **norms)
    compare("jina-v2, code", path, m)
    m.float().write(path, "jina-bert-v2", two_matrices, **norms)
    compare("jina-v2, code, gate apart", path, m)


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def reranker(path):
    """A cross-encoder: pooler and classifier, pairs with segments."""
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(LETTERS)
    vocab += ["##" + c for c in LETTERS]
    c = tf.BertConfig(**SIZE | {"vocab_size": len(vocab)}, max_position_embeddings=64, num_labels=1)
    m = random_weights(tf.BertForSequenceClassification(c), 8).double().eval()
    names = {"bert." + k: v for k, v in BERT_LAYER.items()}
    names |= {"bert.pooler.dense": "cls", "classifier": "cls.output"}
    special = {"bos": 2, "cls": 2, "seperator": 3, "unknown": 1, "padding": 0, "mask": 4}
    keys = keys_of(c, **{"attention.layer_norm_epsilon": c.layer_norm_eps, "context_length": 64})
    extra = {f"tokenizer.ggml.{k}_token_id": v for k, v in special.items()}
    extra |= {"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": [
        t if t[0] == "[" else t[2:] if t[0] == "#" else "\u2581" + t for t in vocab]}
    write(path, "bert", keys, m, names, extra=extra)
    file = path + ".vocab"
    with open(file, "w", encoding="utf-8") as f:
        f.write("\n".join(vocab) + "\n")
    tok = tf.BertTokenizer(file)
    docs = ["abc def", "q", "hello world of letters", "z z z z z"]
    out = subprocess.run([WATT, "embed", path, "--rerank", "what is it", "-q", "--format", "f32",
                          *(a for d in docs for a in ("--text", d))], check=True,
                         capture_output=True).stdout
    got = np.frombuffer(out, dtype="<f4")
    for doc, score in zip(docs, got, strict=True):
        with torch.no_grad():
            want = m(**tok("what is it", doc, return_tensors="pt")).logits[0, 0].item()
        assert abs(want - score) < 1e-5, (doc, want, score)
    print(f"BERT cross-encoder: {len(docs)} pairs")


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.gguf")
        bert(path)
        roberta(path)
        modern_bert(path)
        t5(path, False)
        t5(path, True)
        gemma(path)
        if hasattr(tf, "EuroBertModel"):
            eurobert(path)
        if hasattr(tf, "NomicBertModel"):
            nomic(path)
        if hasattr(tf, "JinaEmbeddingsV3Model"):
            jina_v3(path)
        written(path)
        reranker(path)


if __name__ == "__main__":
    main()
