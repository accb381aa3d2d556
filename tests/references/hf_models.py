#!/usr/bin/env python3
"""Compares Hugging Face folders with transformers, which made them.

For each family a tiny model of random weights is saved by transformers. `watt logits` on its folder
must give that library's logits within 1e-5 of the largest, with the reference interpreter and with
the fast kernels; `watt convert` writes it as GGUF, whose logits must differ from the folder's by at
most 1e-6 relative. One family is also saved in several shards, and as BF16, F16 and FP8, where the
fast kernels round activations as well.

WATT names the program under test. Arguments are families to try; without any, all.
"""
# requires: torch transformers numpy safetensors
import copy
import os
import subprocess
import sys
import tempfile

sys.path.pop(0)     # this file's folder: it has a file of a package's name

try:
    import numpy as np
    import torch
    import transformers as T
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

WATT = os.environ.get("WATT", "build/watt")
VOCAB = 128
T.logging.set_verbosity_error()


def base(**more):
    fields = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=4,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                  bos_token_id=1, eos_token_id=2, pad_token_id=0)
    fields.update(more)
    return fields


def rope(kind, **more):
    return dict(rope_type=kind, rope_theta=10000.0, **more)


def causal(name, **more):
    """A model of class <name>ForCausalLM with <name>Config."""
    return lambda: getattr(T, name + "ForCausalLM")(getattr(T, name + "Config")(**base(**more)))


def plain(name, config, **fields):
    return lambda: getattr(T, name)(getattr(T, config)(vocab_size=VOCAB, **fields))


def nemotron_h():
    model = causal("NemotronH", layers_block_type=["mamba", "mlp", "attention", "mlp"], head_dim=16,
                   mamba_num_heads=8, mamba_head_dim=16, n_groups=2, ssm_state_size=16,
                   chunk_size=16)()
    for layer in model.modules():       # clamped from below there, but not by what trained it
        if hasattr(layer, "time_step_limit"):
            layer.time_step_limit = (0.0, float("inf"))
    return model


LATENT = dict(num_key_value_heads=4, n_shared_experts=1, moe_intermediate_size=48,
              first_k_dense_replace=1, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=24,
              v_head_dim=24, num_experts_per_tok=2)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48)
LONG = rope("longrope", original_max_position_embeddings=256,
            short_factor=[1 + 0.1 * i for i in range(8)],
            long_factor=[2 + 0.3 * i for i in range(8)])
GRANITE = dict(embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5,
               attention_multiplier=0.2)

FAMILIES = {
    "llama": causal("Llama", tie_word_embeddings=False),
    "llama-3": causal("Llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                      rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0,
                                           high_freq_factor=4.0,
                                           original_max_position_embeddings=64)),
    "llama-yarn": causal("Llama", rope_parameters=rope("yarn", factor=4.0,
                                                       original_max_position_embeddings=64)),
    "llama-linear": causal("Llama", rope_parameters=rope("linear", factor=4.0)),
    "mistral": causal("Mistral", sliding_window=None, head_dim=32),
    "mixtral": causal("Mixtral", num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": causal("Qwen2"),
    "qwen2-moe": causal("Qwen2Moe", shared_expert_intermediate_size=80, **EXPERTS),
    "qwen3": causal("Qwen3", head_dim=32),
    "qwen3-moe": causal("Qwen3Moe", head_dim=32, norm_topk_prob=True, **EXPERTS),
    "qwen3-next": causal("Qwen3Next", head_dim=32, shared_expert_intermediate_size=48,
                         linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2,
                         linear_num_value_heads=4, **EXPERTS),
    "gemma": causal("Gemma", head_dim=32),
    "gemma-2": causal("Gemma2", head_dim=32, sliding_window=8, query_pre_attn_scalar=32),
    "gemma-3": lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(**base(
        num_hidden_layers=7, head_dim=32, sliding_window=8, query_pre_attn_scalar=24))),
    "gemma-3n": lambda: T.Gemma3nForCausalLM(T.Gemma3nTextConfig(**base(
        num_hidden_layers=7, head_dim=16, sliding_window=8, num_kv_shared_layers=3, laurel_rank=8,
        hidden_size_per_layer_input=12, vocab_size_per_layer_input=100, altup_active_idx=1,
        layer_types=["full_attention" if i in (1, 3, 6) else "sliding_attention" for i in range(7)],
        activation_sparsity_pattern=[0.9, 0.95, 0.3] + 4 * [0.0]))),
    "phi-2": causal("Phi", num_key_value_heads=4),
    "phi-3": causal("Phi3", sliding_window=None),
    "phi-3-long": causal("Phi3", sliding_window=None, original_max_position_embeddings=256,
                         max_position_embeddings=1024, rope_parameters=LONG),
    "gpt-2": plain("GPT2LMHeadModel", "GPT2Config", n_embd=64, n_layer=3, n_head=4, n_positions=128,
                   bos_token_id=1, eos_token_id=2),
    "gpt-neox": causal("GPTNeoX", num_key_value_heads=None),
    "gpt-bigcode": plain("GPTBigCodeForCausalLM", "GPTBigCodeConfig", n_embd=64, n_layer=3, n_head=4,
                         n_positions=128, bos_token_id=1, eos_token_id=2),
    "olmo": causal("Olmo"),
    "olmo-2": causal("Olmo2"),
    "olmo-3": causal("Olmo3", sliding_window=8),
    "olmoe": causal("Olmoe", num_experts=4, num_experts_per_tok=2),
    "deepseek-v2": causal("DeepseekV2", n_routed_experts=4, q_lora_rank=None, topk_method="greedy",
                          **LATENT),
    "deepseek-v3": causal("DeepseekV3", n_routed_experts=8, q_lora_rank=40, n_group=4, topk_group=2,
                          **LATENT),
    "gpt-oss": causal("GptOss", head_dim=32, num_local_experts=4, num_experts_per_tok=2,
                      sliding_window=8, intermediate_size=64),
    "mamba": plain("MambaForCausalLM", "MambaConfig", hidden_size=64, num_hidden_layers=3,
                   state_size=8, time_step_rank=4),
    "mamba-2": plain("Mamba2ForCausalLM", "Mamba2Config", hidden_size=64, num_hidden_layers=3,
                     state_size=16, head_dim=16, num_heads=8, n_groups=2, chunk_size=16,
                     tie_word_embeddings=False),
    "jamba": causal("Jamba", num_hidden_layers=8, num_experts=4, num_experts_per_tok=2,
                    attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2,
                    expert_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4),
    "nemotron-h": nemotron_h,
    "falcon-h1": causal("FalconH1", head_dim=16, mamba_d_ssm=128, mamba_n_heads=8, mamba_d_head=16,
                        mamba_n_groups=2, mamba_d_state=16, mamba_chunk_size=16,
                        embedding_multiplier=1.5, lm_head_multiplier=0.5, key_multiplier=0.7,
                        attention_in_multiplier=1.1, attention_out_multiplier=0.9,
                        ssm_in_multiplier=1.2, ssm_out_multiplier=0.8, mlp_multipliers=[0.9, 1.3],
                        ssm_multipliers=[0.9, 1.1, 0.8, 1.2, 0.7]),
    "lfm2": causal("Lfm2", layer_types=["conv", "full_attention", "conv", "full_attention"]),
    "falcon": causal("Falcon", ffn_hidden_size=256),
    "falcon-40b": causal("Falcon", ffn_hidden_size=256, new_decoder_architecture=True, num_kv_heads=2),
    "bloom": plain("BloomForCausalLM", "BloomConfig", hidden_size=64, n_layer=3, n_head=4),
    "mpt": plain("MptForCausalLM", "MptConfig", d_model=64, n_layers=3, n_heads=4, max_seq_len=256),
    "stablelm": causal("StableLm"),
    "starcoder2": causal("Starcoder2", sliding_window=None),
    "nemotron": causal("Nemotron", head_dim=16),
    "cohere": causal("Cohere"),
    "cohere-2": causal("Cohere2", sliding_window=8),
    "granite": causal("Granite", **GRANITE),
    "granite-moe": causal("GraniteMoe", num_local_experts=4, num_experts_per_tok=2, **GRANITE),
    "smollm-3": causal("SmolLM3"),
    "arcee": causal("Arcee"),
    "apertus": causal("Apertus", tie_word_embeddings=False, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
    "glm-4": causal("Glm4", head_dim=32),
    "glm-4-moe": causal("Glm4Moe", head_dim=32, n_routed_experts=4, num_experts_per_tok=2,
                        moe_intermediate_size=48, n_group=1, topk_group=1, first_k_dense_replace=1,
                        use_qk_norm=True),
    "exaone-4": causal("Exaone4", sliding_window=8),
    "ernie-4.5": causal("Ernie4_5", head_dim=16),
    "seed-oss": causal("SeedOss", head_dim=16),
    "hunyuan": causal("HunYuanDenseV1", head_dim=16),
    "bert": lambda: T.BertModel(T.BertConfig(**base())),
    "modernbert": lambda: T.ModernBertModel(T.ModernBertConfig(**base(
        local_attention=16, cls_token_id=1, sep_token_id=2))),
    "t5-encoder": plain("T5EncoderModel", "T5Config", d_model=64, d_kv=16, d_ff=96, num_layers=3,
                        num_heads=4, feed_forward_proj="gated-gelu"),
}
IN_DOUBLE = ("gemma-3n",)       # whose own F32 is up to 1e-5 away from them
ARGUMENTS = {"phi-3-long": ["--ctx", "256"]}    # 24 positions: the short factors


def enliven(model):
    """Random values where a fresh model has ones and zeros, and weights that matter."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 and ("norm" in name.lower() or "ln" in name):
                p.add_(0.3 * torch.randn_like(p))
            elif p.ndim == 1 and "A_log" not in name:
                p.add_(0.1 * torch.randn_like(p))
            elif p.ndim >= 2 and p.abs().max() <= 0.2:
                p.mul_(3)
            if "linear_attn.in_proj" in name or "linear_attn.conv1d" in name:
                # GGUF's L2 norm has its epsilon elsewhere: the same for long vectors only
                p.mul_(10)
        for name, b in model.named_buffers():
            if "e_score_correction_bias" in name:
                b.add_(0.05 * torch.randn_like(b))


def run(*command):
    done = subprocess.run([WATT, *command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().split("\n")[-1])


def logits(model, ids, executor, *more):
    with tempfile.NamedTemporaryFile() as out:
        run("logits", model, "--ids", ",".join(map(str, ids)), "--exec", executor, "--kv", "f32",
            "--out", out.name, *more)
        raw = open(out.name, "rb").read()
    n, width = np.frombuffer(raw[:8], np.uint32)
    return np.frombuffer(raw[8 + 4 * n:], np.float32).reshape(n, width)


def away(got, expected):
    if got.shape != expected.shape:
        raise RuntimeError(f"shape {got.shape}, expected {expected.shape}")
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def answer(model, ids, double=False):
    if double:
        to_float, torch.Tensor.float = torch.Tensor.float, lambda x: x      # norms ask for F32
        try:
            return answer(copy.deepcopy(model).double(), ids)
        finally:
            torch.Tensor.float = to_float
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]))
    y = out.logits if getattr(out, "logits", None) is not None else out.last_hidden_state
    return y[0].float().numpy() if y.dtype != torch.float64 else y[0].numpy()


def check(name, folder, ids, expected, limit=1e-5):
    """limit: of the fast kernels, which multiply 16-bit weights with activations of 16 bits."""
    more = ARGUMENTS.get(name, [])
    found = {e: logits(folder, ids, e, *more) for e in ("ref", "cpu")}
    off = {e: away(y, expected) for e, y in found.items()}
    run("convert", folder, folder + "/out.gguf")
    trip = away(logits(folder + "/out.gguf", ids, "cpu", *more), found["cpu"])
    good = off["ref"] <= 1e-5 and off["cpu"] <= limit and trip <= 1e-6
    print(f"{name:14} reference {off['ref']:.1e}  kernels {off['cpu']:.1e}  as GGUF {trip:.1e}"
          f"{'' if good else '  FAILED'}", flush=True)
    return good


def to_fp8(folder, out):
    """Every matrix of the layers as E4M3 with a scale for each block of 32 by 32; returns what
    they then mean in BF16."""
    tensors = load_file(folder + "/model.safetensors")
    means = {}
    for name, x in list(tensors.items()):
        if x.ndim != 2 or ".layers." not in name:
            continue
        rows, cols = x.shape
        scale = torch.empty((rows + 31) // 32, (cols + 31) // 32)
        q = torch.empty(rows, cols, dtype=torch.float8_e4m3fn)
        for r in range(0, rows, 32):
            for c in range(0, cols, 32):
                s = x[r:r + 32, c:c + 32].abs().max() / 448
                scale[r // 32, c // 32] = s
                q[r:r + 32, c:c + 32] = (x[r:r + 32, c:c + 32] / s).to(torch.float8_e4m3fn)
        spread = scale.repeat_interleave(32, 0)[:rows].repeat_interleave(32, 1)[:, :cols]
        means[name] = (q.float() * spread).to(torch.bfloat16).float()
        tensors[name] = q
        tensors[name + "_scale_inv"] = scale
    os.makedirs(out)
    save_file(tensors, out + "/model.safetensors")
    return means


def stored_otherwise(folder, model, ids):
    """The first family again: in shards, in 16 bits, in FP8."""
    import json
    good = True
    shards = folder + "-shards"
    model.save_pretrained(shards, max_shard_size="100KB")
    good &= check("shards", shards, ids, answer(model, ids))
    for kind in (torch.bfloat16, torch.float16):
        half = T.LlamaForCausalLM.from_pretrained(folder, dtype=kind)
        half.save_pretrained(f"{folder}-{kind}")
        good &= check(str(kind)[6:], f"{folder}-{kind}", ids, answer(half.float(), ids), 3e-2)
    means = to_fp8(folder, folder + "-fp8")
    config = json.load(open(folder + "/config.json"))
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    json.dump(config, open(folder + "-fp8/config.json", "w"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in means:
                p.copy_(means[name])
    return check("fp8", folder + "-fp8", ids, answer(model, ids), 3e-2) and good


def main(names):
    bad, n = [], 0
    ids = torch.randint(3, VOCAB, (24,), generator=torch.Generator().manual_seed(3)).tolist()
    with tempfile.TemporaryDirectory() as top:
        for name in names or FAMILIES:
            torch.manual_seed(7)
            folder = os.path.join(top, name)
            try:
                model = FAMILIES[name]().float().eval()
                enliven(model)
                model.save_pretrained(folder)
                n += 1
                if not check(name, folder, ids, answer(model, ids, name in IN_DOUBLE)):
                    bad.append(name)
                if name == "llama" and not stored_otherwise(folder, model, ids):
                    bad.append("llama stored otherwise")
            except (RuntimeError, AttributeError, ValueError, TypeError) as error:
                print(f"{name:14} FAILED: {error}", flush=True)
                bad.append(name)
    print(f"{n} families, {len(bad)} differ" + (": " + ", ".join(bad) if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
