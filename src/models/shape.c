/* shape.c: well-known shapes and the tensors that follow from a shape; see shape.h. */
#include "models/shape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define LLAMA3(factor) .rope = SHAPE_ROPE_LLAMA3, .rope_factor = (factor), .rope_low = 1.0f, \
                       .rope_high = 4.0f, .rope_ctx = 8192

static const struct shape builtin[] = {
    { .name = "llama-3.2-1b", .arch = "llama", .pre = "llama-bpe", .n_layers = 16, .n_embd = 2048,
      .n_ff = 8192, .n_heads = 32, .n_kv_heads = 8, .head_dim = 64, .n_vocab = 128256,
      .n_ctx = 131072, .tied = true, .norm_eps = 1e-5f, .rope_base = 500000.0f, LLAMA3(32.0f) },
    { .name = "llama-3.2-3b", .arch = "llama", .pre = "llama-bpe", .n_layers = 28, .n_embd = 3072,
      .n_ff = 8192, .n_heads = 24, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 128256,
      .n_ctx = 131072, .tied = true, .norm_eps = 1e-5f, .rope_base = 500000.0f, LLAMA3(32.0f) },
    { .name = "llama-3.1-8b", .arch = "llama", .pre = "llama-bpe", .n_layers = 32, .n_embd = 4096,
      .n_ff = 14336, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 128256,
      .n_ctx = 131072, .norm_eps = 1e-5f, .rope_base = 500000.0f, LLAMA3(8.0f) },
    { .name = "llama-3.1-70b", .arch = "llama", .pre = "llama-bpe", .n_layers = 80, .n_embd = 8192,
      .n_ff = 28672, .n_heads = 64, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 128256,
      .n_ctx = 131072, .norm_eps = 1e-5f, .rope_base = 500000.0f, LLAMA3(8.0f) },
    { .name = "llama-3.1-405b", .arch = "llama", .pre = "llama-bpe", .n_layers = 126,
      .n_embd = 16384, .n_ff = 53248, .n_heads = 128, .n_kv_heads = 8, .head_dim = 128,
      .n_vocab = 128256, .n_ctx = 131072, .norm_eps = 1e-5f, .rope_base = 500000.0f, LLAMA3(8.0f) },
    { .name = "mistral-7b", .arch = "llama", .pre = "gpt-2", .n_layers = 32, .n_embd = 4096,
      .n_ff = 14336, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 32768,
      .n_ctx = 32768, .norm_eps = 1e-5f, .rope_base = 1000000.0f },
    { .name = "mixtral-8x7b", .arch = "llama", .pre = "gpt-2", .n_layers = 32, .n_embd = 4096,
      .n_ff = 14336, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 32000,
      .n_ctx = 32768, .n_experts = 8, .n_experts_used = 2, .norm_eps = 1e-5f,
      .rope_base = 1000000.0f },
    { .name = "moe-7b", .arch = "llama", .pre = "llama-bpe", .n_layers = 16, .n_embd = 2048,
      .n_ff = 1024, .n_heads = 16, .n_kv_heads = 16, .head_dim = 128, .n_vocab = 50304,
      .n_ctx = 4096, .n_experts = 64, .n_experts_used = 8, .norm_eps = 1e-5f,
      .rope_base = 10000.0f },
    { .name = "qwen2.5-0.5b", .arch = "qwen2", .pre = "qwen2", .n_layers = 24, .n_embd = 896,
      .n_ff = 4864, .n_heads = 14, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 151936,
      .n_ctx = 32768, .tied = true, .norm_eps = 1e-6f, .rope_base = 1000000.0f,
      .features = SHAPE_QKV_BIAS },
    { .name = "qwen3-0.6b", .arch = "qwen3", .pre = "qwen2", .n_layers = 28, .n_embd = 1024,
      .n_ff = 3072, .n_heads = 16, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 151936,
      .n_ctx = 40960, .tied = true, .norm_eps = 1e-6f, .rope_base = 1000000.0f,
      .features = SHAPE_QK_NORM },
    { .name = "qwen3-4b", .arch = "qwen3", .pre = "qwen2", .n_layers = 36, .n_embd = 2560,
      .n_ff = 9728, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 151936,
      .n_ctx = 40960, .tied = true, .norm_eps = 1e-6f, .rope_base = 1000000.0f,
      .features = SHAPE_QK_NORM },
    { .name = "qwen3-8b", .arch = "qwen3", .pre = "qwen2", .n_layers = 36, .n_embd = 4096,
      .n_ff = 12288, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 151936,
      .n_ctx = 40960, .norm_eps = 1e-6f, .rope_base = 1000000.0f, .features = SHAPE_QK_NORM },
    { .name = "qwen3-14b", .arch = "qwen3", .pre = "qwen2", .n_layers = 40, .n_embd = 5120,
      .n_ff = 17408, .n_heads = 40, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 151936,
      .n_ctx = 40960, .norm_eps = 1e-6f, .rope_base = 1000000.0f, .features = SHAPE_QK_NORM },
    { .name = "qwen3-32b", .arch = "qwen3", .pre = "qwen2", .n_layers = 64, .n_embd = 5120,
      .n_ff = 25600, .n_heads = 64, .n_kv_heads = 8, .head_dim = 128, .n_vocab = 151936,
      .n_ctx = 40960, .norm_eps = 1e-6f, .rope_base = 1000000.0f, .features = SHAPE_QK_NORM },
    { .name = "qwen3-30b-a3b", .arch = "qwen3moe", .pre = "qwen2", .n_layers = 48, .n_embd = 2048,
      .n_ff = 768, .n_heads = 32, .n_kv_heads = 4, .head_dim = 128, .n_vocab = 151936,
      .n_ctx = 40960, .n_experts = 128, .n_experts_used = 8, .norm_eps = 1e-6f,
      .rope_base = 1000000.0f, .features = SHAPE_QK_NORM },
    { .name = "gpt2-124m", .arch = "gpt2", .pre = "gpt-2", .n_layers = 12, .n_embd = 768,
      .n_ff = 3072, .n_heads = 12, .n_kv_heads = 12, .head_dim = 64, .n_vocab = 50257,
      .n_ctx = 1024, .tied = true, .norm_eps = 1e-5f, .features = SHAPE_GPT2 },
    { .name = "mamba2-1.3b", .arch = "mamba2", .pre = "gpt-2", .n_layers = 48, .n_embd = 2048,
      .n_ff = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2, .n_vocab = 50288, .n_ctx = 1048576,
      .tied = true, .norm_eps = 1e-5f, .rope_base = 10000.0f, .ssm_inner = 4096,
      .ssm_state = 128, .ssm_heads = 64, .ssm_groups = 1, .ssm_conv = 4,
      .features = SHAPE_MAMBA2 | SHAPE_BARE },
    { .name = "falcon-h1-1.5b", .arch = "falcon-h1", .pre = "llama-bpe", .n_layers = 24,
      .n_embd = 2048, .n_ff = 4096, .n_heads = 8, .n_kv_heads = 2, .head_dim = 128,
      .n_vocab = 65536, .n_ctx = 131072, .norm_eps = 1e-5f, .rope_base = 1e11f, .ssm_inner = 3072,
      .ssm_state = 256, .ssm_heads = 48, .ssm_groups = 1, .ssm_conv = 4,
      .features = SHAPE_MAMBA2 },
    { .name = "tiny-mamba2", .arch = "mamba2", .pre = "gpt-2", .n_layers = 2, .n_embd = 256,
      .n_ff = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2, .n_vocab = 512, .n_ctx = 4096,
      .tied = true, .norm_eps = 1e-5f, .rope_base = 10000.0f, .ssm_inner = 512, .ssm_state = 32,
      .ssm_heads = 8, .ssm_groups = 2, .ssm_conv = 4, .features = SHAPE_MAMBA2 | SHAPE_BARE },
    { .name = "tiny-falcon-h1", .arch = "falcon-h1", .pre = "llama-bpe", .n_layers = 2,
      .n_embd = 256, .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 512,
      .n_ctx = 512, .norm_eps = 1e-5f, .rope_base = 500000.0f, .ssm_inner = 512, .ssm_state = 32,
      .ssm_heads = 8, .ssm_groups = 1, .ssm_conv = 4, .features = SHAPE_MAMBA2 },
    { .name = "tiny-llama", .arch = "llama", .pre = "llama-bpe", .n_layers = 2, .n_embd = 256,
      .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 512, .n_ctx = 512,
      .norm_eps = 1e-5f, .rope_base = 500000.0f, .rope = SHAPE_ROPE_LLAMA3, .rope_factor = 8.0f,
      .rope_low = 1.0f, .rope_high = 4.0f, .rope_ctx = 64 },
    { .name = "tiny-moe", .arch = "llama", .pre = "llama-bpe", .n_layers = 2, .n_embd = 256,
      .n_ff = 256, .n_heads = 4, .n_kv_heads = 4, .head_dim = 64, .n_vocab = 512, .n_ctx = 512,
      .n_experts = 8, .n_experts_used = 2, .norm_eps = 1e-5f, .rope_base = 10000.0f },
    { .name = "tiny-mistral3", .arch = "mistral3", .pre = "gpt-2", .n_layers = 2, .n_embd = 256,
      .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 512, .n_ctx = 2048,
      .norm_eps = 1e-5f, .rope_base = 1000000.0f, .rope = SHAPE_ROPE_YARN, .rope_factor = 4.0f,
      .rope_ctx = 512 },
    { .name = "tiny-qwen2", .arch = "qwen2", .pre = "qwen2", .n_layers = 2, .n_embd = 256,
      .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 512, .n_ctx = 512,
      .tied = true, .norm_eps = 1e-6f, .rope_base = 1000000.0f, .features = SHAPE_QKV_BIAS },
    { .name = "tiny-qwen3", .arch = "qwen3", .pre = "qwen2", .n_layers = 2, .n_embd = 256,
      .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 128, .n_vocab = 512, .n_ctx = 512,
      .tied = true, .norm_eps = 1e-6f, .rope_base = 1000000.0f, .features = SHAPE_QK_NORM },
    { .name = "llada-1b", .arch = "llada", .pre = "llama-bpe", .n_layers = 16, .n_embd = 2048,
      .n_ff = 8192, .n_heads = 32, .n_kv_heads = 8, .head_dim = 64, .n_vocab = 128256,
      .n_ctx = 4096, .tied = true, .norm_eps = 1e-5f, .rope_base = 500000.0f,
      .features = SHAPE_DIFFUSION },
    { .name = "tiny-llada", .arch = "llada", .pre = "llama-bpe", .n_layers = 2, .n_embd = 256,
      .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 512, .n_ctx = 512,
      .norm_eps = 1e-5f, .rope_base = 10000.0f, .features = SHAPE_DIFFUSION },
    { .name = "tiny-dream", .arch = "dream", .pre = "qwen2", .n_layers = 2, .n_embd = 256,
      .n_ff = 512, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64, .n_vocab = 512, .n_ctx = 512,
      .norm_eps = 1e-6f, .rope_base = 10000.0f,
      .features = SHAPE_QKV_BIAS | SHAPE_DIFFUSION | SHAPE_SHIFTED },
    { .name = "tiny-gpt2", .arch = "gpt2", .pre = "gpt-2", .n_layers = 2, .n_embd = 256,
      .n_ff = 1024, .n_heads = 4, .n_kv_heads = 4, .head_dim = 64, .n_vocab = 512, .n_ctx = 128,
      .tied = true, .norm_eps = 1e-5f, .features = SHAPE_GPT2 },
};

/* What an architecture's name implies. */
static const struct {
    const char *arch;
    unsigned    features;
} archs[] = {
    { "llama", 0 }, { "mistral3", 0 }, { "qwen2", SHAPE_QKV_BIAS }, { "qwen3", SHAPE_QK_NORM },
    { "qwen3moe", SHAPE_QK_NORM }, { "gpt2", SHAPE_GPT2 }, { "llada", SHAPE_DIFFUSION },
    { "dream", SHAPE_QKV_BIAS | SHAPE_DIFFUSION | SHAPE_SHIFTED },
    { "mamba2", SHAPE_MAMBA2 | SHAPE_BARE }, { "falcon-h1", SHAPE_MAMBA2 },
};

size_t shape_n_builtin(void)
{
    return sizeof builtin / sizeof builtin[0];
}

const struct shape *shape_builtin(size_t i)
{
    CHECK(i < shape_n_builtin());
    return &builtin[i];
}

const struct shape *shape_find(const char *name)
{
    for (size_t i = 0; i < shape_n_builtin(); i++) {
        if (strcmp(builtin[i].name, name) == 0)
            return &builtin[i];
    }
    return NULL;
}

int shape_set_arch(struct shape *s, const char *arch, struct err *e)
{
    char known[128] = "";
    size_t len = 0;

    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        if (strcmp(archs[i].arch, arch) == 0) {
            (void)snprintf(s->arch, sizeof s->arch, "%s", arch);
            s->features = archs[i].features;
            return 0;
        }
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "",
                                archs[i].arch);
    }
    return err_set(e, WATT_ENOTSUP, "architecture '%.64s' has no list of tensors here; known are %s",
                   arch, known);
}

/* ---- checks ---- */

static int check_range(const struct shape *s, const char *what, uint32_t v, uint32_t min,
                       uint32_t max, struct err *e)
{
    if (v < min || v > max)
        return err_set(e, v < min ? WATT_EINVAL : WATT_ELIMIT,
                       "%s: %s is %" PRIu32 ", expected %" PRIu32 " to %" PRIu32, s->name, what, v,
                       min, max);
    return 0;
}

static int check_heads(const struct shape *s, struct err *e)
{
    if (s->n_heads % s->n_kv_heads != 0)
        return err_set(e, WATT_EINVAL,
                       "%s: %" PRIu32 " heads don't share %" PRIu32 " key/value heads evenly",
                       s->name, s->n_heads, s->n_kv_heads);
    if (s->rope_base != 0.0f && s->head_dim % 2 != 0)
        return err_set(e, WATT_EINVAL, "%s: head_dim is %" PRIu32 ", rotary pairs need an even one",
                       s->name, s->head_dim);
    if ((uint64_t)s->n_heads * s->head_dim > SHAPE_MAX_WIDTH)
        return err_set(e, WATT_ELIMIT, "%s: %" PRIu32 " heads of %" PRIu32 " are wider than %u",
                       s->name, s->n_heads, s->head_dim, SHAPE_MAX_WIDTH);
    if ((s->features & SHAPE_GPT2) &&
        (s->n_experts || s->n_kv_heads != s->n_heads || s->n_heads * s->head_dim != s->n_embd))
        return err_set(e, WATT_EINVAL,
                       "%s: gpt2 has no experts, and its heads are as wide as the embedding",
                       s->name);
    return 0;
}

static int check_ssm(const struct shape *s, struct err *e)
{
    if (!(s->features & SHAPE_MAMBA2))
        return 0;
    if (s->ssm_heads == 0 || s->ssm_groups == 0 || s->ssm_conv < 2 || s->ssm_conv > 256 ||
        s->ssm_state == 0 || s->ssm_inner == 0 || s->ssm_inner > SHAPE_MAX_WIDTH ||
        s->ssm_inner % s->ssm_heads != 0 || s->ssm_heads % s->ssm_groups != 0 ||
        s->ssm_inner % s->ssm_groups != 0 ||
        (uint64_t)s->ssm_groups * s->ssm_state > SHAPE_MAX_WIDTH ||
        (uint64_t)s->ssm_inner * s->ssm_state > (1u << 28))
        return err_set(e, WATT_EINVAL, "%s: a state space of %" PRIu32 " columns in %" PRIu32
                       " heads and %" PRIu32 " groups with %" PRIu32 " numbers each and a "
                       "convolution of %" PRIu32, s->name, s->ssm_inner, s->ssm_heads,
                       s->ssm_groups, s->ssm_state, s->ssm_conv);
    return 0;
}

static bool sane(float f, float min, float max)
{
    return f >= min && f <= max;    /* false for NaN */
}

static int check_floats(const struct shape *s, struct err *e)
{
    if (!sane(s->norm_eps, 1e-20f, 1.0f))
        return err_set(e, WATT_EINVAL, "%s: the norm's epsilon is %g", s->name,
                       (double)s->norm_eps);
    if (!(s->features & SHAPE_GPT2) && !sane(s->rope_base, 1.0f, 1e12f))
        return err_set(e, WATT_EINVAL, "%s: the rotary base is %g", s->name,
                       (double)s->rope_base);
    if (s->rope == SHAPE_ROPE_PLAIN)
        return 0;
    if (!sane(s->rope_factor, 1e-3f, 1e6f) || s->rope_ctx == 0)
        return err_set(e, WATT_EINVAL, "%s: rotary scaling by %g from a context of %" PRIu32,
                       s->name, (double)s->rope_factor, s->rope_ctx);
    if (s->rope == SHAPE_ROPE_LLAMA3 &&
        (!sane(s->rope_low, 1e-3f, 1e6f) || !sane(s->rope_high, 1e-3f, 1e6f) ||
         s->rope_high <= s->rope_low))
        return err_set(e, WATT_EINVAL,
                       "%s: rotary frequency factors %g (low) and %g (high)", s->name,
                       (double)s->rope_low, (double)s->rope_high);
    return 0;
}

/* So that no sum or product of extents overflows 64 bits later. */
static int check_total(const struct shape *s, struct err *e)
{
    const double width = (double)s->n_embd, layers = (double)s->n_layers;
    const double ffn = 3.0 * width * s->n_ff * (s->n_experts ? s->n_experts : 1);
    const double attention = 4.0 * width * s->n_heads * s->head_dim;
    const double ssm = 5.0 * width * s->ssm_inner;
    const double total = 2.0 * width * s->n_vocab + layers * (ffn + attention + ssm) +
                         width * s->n_ctx;

    if (total > SHAPE_MAX_PARAMS)
        return err_set(e, WATT_ELIMIT, "%s: %.3g parameters, at most %.3g", s->name, total,
                       SHAPE_MAX_PARAMS);
    return 0;
}

int shape_check(const struct shape *s, struct err *e)
{
    int rc = check_range(s, "the number of layers", s->n_layers, 1, SHAPE_MAX_LAYERS, e);

    if (rc == 0)
        rc = check_range(s, "the embedding's width", s->n_embd, 1, SHAPE_MAX_WIDTH, e);
    if (rc == 0)
        rc = check_range(s, "the feed-forward width", s->n_ff, 1, SHAPE_MAX_WIDTH, e);
    if (rc == 0)
        rc = check_range(s, "the number of heads", s->n_heads, 1, SHAPE_MAX_WIDTH, e);
    if (rc == 0)
        rc = check_range(s, "the number of key/value heads", s->n_kv_heads, 1, s->n_heads, e);
    if (rc == 0)
        rc = check_range(s, "head_dim", s->head_dim, 1, SHAPE_MAX_HEAD, e);
    if (rc == 0)
        rc = check_range(s, "the vocabulary", s->n_vocab, 1, SHAPE_MAX_VOCAB, e);
    if (rc == 0)
        rc = check_range(s, "the context", s->n_ctx, 1, SHAPE_MAX_CONTEXT, e);
    if (rc == 0)
        rc = check_range(s, "the number of experts", s->n_experts, 0, SHAPE_MAX_EXPERTS, e);
    if (rc == 0)
        rc = check_range(s, "the number of experts used", s->n_experts_used,
                         s->n_experts ? 1 : 0, s->n_experts, e);
    if (rc == 0)
        rc = check_range(s, "the sliding window", s->window, 0, SHAPE_MAX_CONTEXT, e);
    if (rc == 0)
        rc = check_heads(s, e);
    if (rc == 0)
        rc = check_ssm(s, e);
    if (rc == 0)
        rc = check_floats(s, e);
    return rc == 0 ? check_total(s, e) : rc;
}

/* ---- tensors ---- */

enum extent { NONE, EMBD, VOCAB, CTX, Q, KV, QKV, HEAD, HALF_HEAD, FF, EXPERTS, SSM_IN, SSM_INNER,
              SSM_CONV, SSM_TAPS, SSM_HEADS, SSM_GROUPS, SSM_GROUP, ONE };

/* Conditions, all of which must hold. */
enum {
    UNTIED = 1, DENSE = 2, MOE = 4, GATED = 8, PLAIN_QKV = 16, GPT2 = 32, QKV_BIAS = 64,
    QK_NORM = 128, FACTORS = 256, OUT_BIAS = 512, FFN_BIAS = 1024, BLOCKS = 2048, MAMBA2 = 4096
};

static const struct row {
    const char *name;           /* %u: one per layer */
    uint8_t     extents[3];     /* outermost first */
    uint8_t     init;
    uint16_t    when;
} rows[] = {
    { "token_embd.weight", { VOCAB, EMBD }, SHAPE_MATRIX, 0 },
    { "position_embd.weight", { CTX, EMBD }, SHAPE_MATRIX, GPT2 },
    { "output_norm.weight", { EMBD }, SHAPE_GAIN, 0 },
    { "output_norm.bias", { EMBD }, SHAPE_BIAS, GPT2 },
    { "output.weight", { VOCAB, EMBD }, SHAPE_MATRIX, UNTIED },
    { "rope_freqs.weight", { HALF_HEAD }, SHAPE_ROPE_FACTORS, FACTORS },
    { "blk.%u.attn_norm.weight", { EMBD }, SHAPE_GAIN, 0 },
    { "blk.%u.attn_norm.bias", { EMBD }, SHAPE_BIAS, GPT2 },
    { "blk.%u.attn_q.weight", { Q, EMBD }, SHAPE_MATRIX, PLAIN_QKV },
    { "blk.%u.attn_q.bias", { Q }, SHAPE_BIAS, QKV_BIAS },
    { "blk.%u.attn_q_norm.weight", { HEAD }, SHAPE_GAIN, QK_NORM },
    { "blk.%u.attn_k.weight", { KV, EMBD }, SHAPE_MATRIX, PLAIN_QKV },
    { "blk.%u.attn_k.bias", { KV }, SHAPE_BIAS, QKV_BIAS },
    { "blk.%u.attn_k_norm.weight", { HEAD }, SHAPE_GAIN, QK_NORM },
    { "blk.%u.attn_v.weight", { KV, EMBD }, SHAPE_MATRIX, PLAIN_QKV },
    { "blk.%u.attn_v.bias", { KV }, SHAPE_BIAS, QKV_BIAS },
    { "blk.%u.attn_qkv.weight", { QKV, EMBD }, SHAPE_MATRIX, GPT2 },
    { "blk.%u.attn_qkv.bias", { QKV }, SHAPE_BIAS, GPT2 },
    { "blk.%u.attn_output.weight", { EMBD, Q }, SHAPE_RESIDUAL, BLOCKS },
    { "blk.%u.attn_output.bias", { EMBD }, SHAPE_BIAS, OUT_BIAS },
    { "blk.%u.ssm_in.weight", { SSM_IN, EMBD }, SHAPE_MATRIX, MAMBA2 },
    { "blk.%u.ssm_conv1d.weight", { SSM_CONV, SSM_TAPS }, SHAPE_GAIN, MAMBA2 },
    { "blk.%u.ssm_conv1d.bias", { SSM_CONV }, SHAPE_BIAS, MAMBA2 },
    { "blk.%u.ssm_dt.bias", { SSM_HEADS }, SHAPE_BIAS, MAMBA2 },
    { "blk.%u.ssm_a", { SSM_HEADS, ONE }, SHAPE_DECAY, MAMBA2 },
    { "blk.%u.ssm_d", { SSM_HEADS, ONE }, SHAPE_GAIN, MAMBA2 },
    { "blk.%u.ssm_norm.weight", { SSM_GROUPS, SSM_GROUP }, SHAPE_GAIN, MAMBA2 },
    { "blk.%u.ssm_out.weight", { EMBD, SSM_INNER }, SHAPE_RESIDUAL, MAMBA2 },
    { "blk.%u.ffn_norm.weight", { EMBD }, SHAPE_GAIN, BLOCKS },
    { "blk.%u.ffn_norm.bias", { EMBD }, SHAPE_BIAS, GPT2 },
    { "blk.%u.ffn_gate.weight", { FF, EMBD }, SHAPE_MATRIX, DENSE | GATED },
    { "blk.%u.ffn_gate.bias", { FF }, SHAPE_BIAS, DENSE | GATED | FFN_BIAS },
    { "blk.%u.ffn_up.weight", { FF, EMBD }, SHAPE_MATRIX, DENSE },
    { "blk.%u.ffn_up.bias", { FF }, SHAPE_BIAS, DENSE | FFN_BIAS },
    { "blk.%u.ffn_down.weight", { EMBD, FF }, SHAPE_RESIDUAL, DENSE },
    { "blk.%u.ffn_down.bias", { EMBD }, SHAPE_BIAS, DENSE | FFN_BIAS },
    { "blk.%u.ffn_gate_inp.weight", { EXPERTS, EMBD }, SHAPE_MATRIX, MOE },
    { "blk.%u.ffn_gate_exps.weight", { EXPERTS, FF, EMBD }, SHAPE_MATRIX, MOE },
    { "blk.%u.ffn_up_exps.weight", { EXPERTS, FF, EMBD }, SHAPE_MATRIX, MOE },
    { "blk.%u.ffn_down_exps.weight", { EXPERTS, EMBD, FF }, SHAPE_RESIDUAL, MOE },
};
#define N_ROWS (sizeof rows / sizeof rows[0])
#define FIRST_LAYER_ROW 6

static unsigned conditions(const struct shape *s)
{
    const bool gpt2 = s->features & SHAPE_GPT2;
    unsigned c = gpt2 ? GPT2 | OUT_BIAS | FFN_BIAS : GATED | PLAIN_QKV;

    if (s->features & SHAPE_MAMBA2)
        c |= MAMBA2;
    if (!s->tied)
        c |= UNTIED;
    if (s->features & SHAPE_BARE)
        return c & ~(unsigned)(GATED | PLAIN_QKV);
    c |= BLOCKS | (s->n_experts ? MOE : DENSE);
    if (s->features & SHAPE_QKV_BIAS)
        c |= QKV_BIAS;
    if (s->features & SHAPE_OUT_BIAS)
        c |= OUT_BIAS;
    if (s->features & SHAPE_FFN_BIAS)
        c |= FFN_BIAS;
    if (s->features & SHAPE_QK_NORM)
        c |= QK_NORM;
    if (s->rope == SHAPE_ROPE_LLAMA3)
        c |= FACTORS;
    return c;
}

static int64_t extent_of(const struct shape *s, enum extent extent)
{
    const int64_t q = (int64_t)s->n_heads * s->head_dim, kv = (int64_t)s->n_kv_heads * s->head_dim;
    const int64_t conv = s->ssm_inner + 2 * (int64_t)s->ssm_groups * s->ssm_state;

    switch (extent) {
    case EMBD:      return s->n_embd;
    case VOCAB:     return s->n_vocab;
    case CTX:       return s->n_ctx;
    case Q:         return q;
    case KV:        return kv;
    case QKV:       return q + 2 * kv;
    case HEAD:      return s->head_dim;
    case HALF_HEAD: return s->head_dim / 2;
    case FF:        return s->n_ff;
    case EXPERTS:   return s->n_experts;
    case SSM_IN:    return s->ssm_inner + conv + s->ssm_heads;
    case SSM_INNER: return s->ssm_inner;
    case SSM_CONV:  return conv;
    case SSM_TAPS:  return s->ssm_conv;
    case SSM_HEADS: return s->ssm_heads;
    case SSM_GROUPS: return s->ssm_groups;
    case SSM_GROUP: return s->ssm_inner / s->ssm_groups;
    case ONE:       return 1;
    case NONE:      break;
    }
    return 0;
}

/* Writes a row's name with the layer in place of %u. */
static void put_name(char name[64], const char *pattern, uint32_t layer)
{
    const char *at = strstr(pattern, "%u");

    if (at)
        (void)snprintf(name, 64, "%.*s%" PRIu32 "%s", (int)(at - pattern), pattern, layer, at + 2);
    else
        (void)snprintf(name, 64, "%s", pattern);
}

static int each_of(const struct shape *s, size_t first, size_t last, uint32_t layer,
                   int (*fn)(void *ctx, const struct shape_tensor *t), void *ctx)
{
    const unsigned have = conditions(s);
    int rc = 0;

    for (size_t i = first; i < last && rc == 0; i++) {
        struct shape_tensor t = { .init = (enum shape_init)rows[i].init };

        if ((rows[i].when & have) != rows[i].when)
            continue;
        put_name(t.name, rows[i].name, layer);
        while (t.n_dims < 3 && rows[i].extents[t.n_dims] != NONE) {
            t.shape[t.n_dims] = extent_of(s, (enum extent)rows[i].extents[t.n_dims]);
            t.n_dims++;
        }
        rc = fn(ctx, &t);
    }
    return rc;
}

int shape_each_tensor(const struct shape *s, int (*fn)(void *ctx, const struct shape_tensor *t),
                      void *ctx)
{
    int rc = each_of(s, 0, FIRST_LAYER_ROW, 0, fn, ctx);

    for (uint32_t layer = 0; layer < s->n_layers && rc == 0; layer++)
        rc = each_of(s, FIRST_LAYER_ROW, N_ROWS, layer, fn, ctx);
    return rc;
}

static int add_elems(void *ctx, const struct shape_tensor *t)
{
    uint64_t *total = ctx;
    uint64_t n = 1;

    for (int i = 0; i < t->n_dims; i++)
        n *= (uint64_t)t->shape[i];
    *total += n;
    return 0;
}

uint64_t shape_params(const struct shape *s)
{
    uint64_t total = 0;

    (void)shape_each_tensor(s, add_elems, &total);
    return total;
}

/* "The Llama 3 Herd of Models", 2024, as its published configuration is read:
 * short waves keep their frequency, long ones are divided by the factor, and
 * those between are blended. */
void shape_rope_factors(const struct shape *s, float *out)
{
    const double two_pi = 6.283185307179586, ctx = (double)s->rope_ctx;
    const double low = (double)s->rope_low, high = (double)s->rope_high;

    for (uint32_t i = 0; i < s->head_dim / 2; i++) {
        const double wave = two_pi * pow((double)s->rope_base, 2.0 * i / s->head_dim);
        double factor = 1.0;

        if (wave > ctx / low) {
            factor = (double)s->rope_factor;
        } else if (wave > ctx / high) {
            const double keep = (ctx / wave - low) / (high - low);

            factor = 1.0 / ((1.0 - keep) / (double)s->rope_factor + keep);
        }
        out[i] = (float)factor;
    }
}
