/* train_options.c: the options of `watt train`, and the file that may hold them; see train.h. */
#include <math.h>
#include <string.h>

#include "applications/train.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/train/prepare.h"

#define AT(member) offsetof(struct train_options, member)
#define MAX_CONFIG_BYTES ((size_t)1 << 20)
#define BOM "\xEF\xBB\xBF"         /* some editors begin a file with it */

const struct cli_opt train_option_table[] = {
    { "config", 0, CLI_FILE, AT(config), "FILE", "lines `option = value`, for what the command line leaves open", 0, 0 },
    { "data", 'd', CLI_LIST, AT(data), "FILE[=W]", "text, .jsonl or shard to learn from, with its weight in the mixture; may be given often (default weight: its tokens)", 0, 0 },
    { "val", 0, CLI_LIST, AT(val), "FILE", "data for validation, may be given often (default: a part held back)", 0, 0 },
    { "val-fraction", 0, CLI_REAL, AT(val_fraction), "X", "share of each file held back for validation (default 0.1 without --val, else 0)", 0, 0.9 },
    { "split", 0, CLI_CHOICE, AT(split), "file|lines|paragraphs", "what a document is in texts (default file)", 0, 0 },
    { "pack", 0, CLI_CHOICE, AT(pack), TRAIN_PACK, "cut sequences from the running text, or put whole documents side by side that don't see each other (default windows; documents with --sft)", 0, 0 },
    { "sft", 0, CLI_FLAG, AT(sft), NULL, "fine-tuning on conversations: learn the assistant's turns only", 0, 0 },
    { "prepare-only", 0, CLI_FLAG, AT(prepare_only), NULL, "write the shards of tokens to OUT and end", 0, 0 },
    { "model", 'm', CLI_FILE, AT(model), "FILE", "begin with this model or checkpoint (default: from scratch)", 0, 0 },
    { "tokenizer", 0, CLI_FILE, AT(tokenizer), "FILE", "from scratch: a GGUF file with the vocabulary; chars: the characters of the data; bytes (default bytes)", 0, 0 },
    { "template", 0, CLI_FILE, AT(template_file), "FILE", "from scratch: the chat template (default: the vocabulary's)", 0, 0 },
    { "shape", 0, CLI_TEXT, AT(shape), "NAME", "from scratch: a known shape (watt synth --list), changed by the options below", 0, 0 },
    { "arch", 0, CLI_TEXT, AT(arch), "NAME", "llama, qwen3, qwen3moe, gpt2, mamba2 … (default llama)", 0, 0 },
    { "name", 0, CLI_TEXT, AT(name), "TEXT", "general.name of the model (default: the shape's or the architecture's)", 0, 0 },
    { "layers", 0, CLI_INT, AT(layers), "N", "layers (default 4)", 1, SHAPE_MAX_LAYERS },
    { "width", 0, CLI_INT, AT(width), "N", "width of the embedding (default 128)", 1, SHAPE_MAX_WIDTH },
    { "heads", 0, CLI_INT, AT(heads), "N", "attention heads, or state space heads of mamba2 (default: of 64 columns, or 32 up to a width of 256)", 1, SHAPE_MAX_WIDTH },
    { "kv-heads", 0, CLI_INT, AT(kv_heads), "N", "key/value heads (default: as many as heads)", 1, SHAPE_MAX_WIDTH },
    { "head-dim", 0, CLI_INT, AT(head_dim), "N", "columns of a head (default: width / heads)", 1, SHAPE_MAX_HEAD },
    { "ff", 0, CLI_INT, AT(ff), "N", "feed-forward width (default 4 times the width, 8/3 where it is gated)", 1, SHAPE_MAX_WIDTH },
    { "experts", 0, CLI_INT, AT(experts), "N", "experts per layer (default: none)", 1, SHAPE_MAX_EXPERTS },
    { "experts-used", 0, CLI_INT, AT(experts_used), "N", "experts that a token is sent to (default 2)", 1, SHAPE_MAX_EXPERTS },
    { "ssm-state", 0, CLI_INT, AT(ssm_state), "N", "mamba2: numbers of state per column (default 64)", 1, 65536 },
    { "untied", 0, CLI_FLAG, AT(untied), NULL, "an output matrix apart from the embedding", 0, 0 },
    { "lora-rank", 0, CLI_INT, AT(lora_rank), "N", "with --model: train an adapter of this rank and leave the model as it is", 1, LORA_MAX_RANK },
    { "lora-alpha", 0, CLI_REAL, AT(lora_alpha), "X", "scale of the adapter times its rank (default twice the rank)", 0, 1e6 },
    { "lora-target", 0, CLI_LIST, AT(lora_target), "NAME", "what is adapted: attn_q, ffn_down, ffn_up_exps, output, token_embd …, or all products of layers; may be given often (default: attention and feed-forward)", 0, 0 },
    { "ctx", 'c', CLI_INT, AT(ctx), "N", "tokens of a sequence (default 256, or the model's context up to 1024)", 1, 1 << 20 },
    { "batch", 'b', CLI_INT, AT(batch), "N", "sequences of a batch (default 8)", 1, 65536 },
    { "accum", 0, CLI_INT, AT(accum), "N", "batches of a step, whose gradients are added up (default 1)", 1, 65536 },
    { "steps", 'n', CLI_INT, AT(steps), "N", "steps in all (default: one pass over the data)", 1, 1e12 },
    { "epochs", 0, CLI_REAL, AT(epochs), "X", "passes over the data, in place of --steps", 0, 1e9 },
    { "optimizer", 0, CLI_CHOICE, AT(optimizer), OPTIM_CHOICES, "muon takes hidden matrices and leaves the rest to adamw (default adamw)", 0, 0 },
    { "lr", 0, CLI_REAL, AT(lr), "X", "highest learning rate (default 0.001; with --model 0.00002, of an adapter 0.0002)", 0, 1000 },
    { "min-lr", 0, CLI_REAL, AT(min_lr), "X", "learning rate at the end (default a tenth of --lr)", 0, 1000 },
    { "schedule", 0, CLI_CHOICE, AT(schedule), SCHEDULE_CHOICES, "how it gets there (default cosine)", 0, 0 },
    { "warmup", 0, CLI_INT, AT(warmup), "N", "steps from 0 to --lr (default a hundredth of the steps, at most 500)", 0, 1e12 },
    { "decay", 0, CLI_INT, AT(decay), "N", "wsd: steps of the way down (default a fifth)", 0, 1e12 },
    { "beta1", 0, CLI_REAL, AT(beta1), "X", "AdamW's first moment (default 0.9)", 0, 0.999999 },
    { "beta2", 0, CLI_REAL, AT(beta2), "X", "AdamW's second moment (default 0.95)", 0, 0.999999 },
    { "eps", 0, CLI_REAL, AT(eps), "X", "AdamW's epsilon (default 1e-8)", 1e-30, 1 },
    { "momentum", 0, CLI_REAL, AT(momentum), "X", "Muon's and SGD's (default 0.95; SGD 0.9)", 0, 0.999999 },
    { "weight-decay", 0, CLI_REAL, AT(weight_decay), "X", "of matrices and embeddings, not of vectors (default 0.1; 0 with --model)", 0, 1000 },
    { "clip", 0, CLI_REAL, AT(clip), "X", "largest norm of the gradient; 0: any (default 1)", 0, 1e9 },
    { "ema", 0, CLI_REAL, AT(ema), "X", "keep an average of the weights with this decay, and validate and export it; 0: off (default 0)", 0, 0.999999 },
    { "dropout", 0, CLI_REAL, AT(dropout), "P", "share dropped of embeddings, of what layers add and of weights of attention (default 0)", 0, 0.95 },
    { "attn-dropout", 0, CLI_REAL, AT(attn_dropout), "P", "of weights of attention, where that is another (default --dropout)", 0, 0.95 },
    { "balance", 0, CLI_REAL, AT(balance), "X", "weight of the loss that balances experts (default 0.01)", 0, 1000 },
    { "seed", 0, CLI_INT, AT(seed), "N", "of weights, order of the data and dropout (default 1)", 0, 9007199254740992.0 },
    { "compute", 0, CLI_CHOICE, AT(compute), TRAIN_COMPUTE, "type of the products; master weights are f32 in any case (default f32)", 0, 0 },
    { "recompute", 0, CLI_FLAG, AT(recompute), NULL, "less memory for activations, a third more work, the same bits", 0, 0 },
    { "eval-every", 0, CLI_INT, AT(eval_every), "N", "steps between validations; 0: at the end only (default a tenth of the steps)", 0, 1e12 },
    { "eval-batches", 0, CLI_INT, AT(eval_batches), "N", "batches of a validation; 0: all (default 50)", 0, 1e12 },
    { "save-every", 0, CLI_INT, AT(save_every), "N", "steps between checkpoints; 0: at the end only (default as --eval-every)", 0, 1e12 },
    { "keep", 0, CLI_INT, AT(keep), "N", "checkpoints to keep; 0: all (default 2)", 0, 1e9 },
    { "sample-every", 0, CLI_INT, AT(sample_every), "N", "steps between samples of text; 0: none (default 0)", 0, 1e12 },
    { "sample-prompt", 0, CLI_TEXT, AT(sample_prompt), "TEXT", "what they begin with (default: a new line)", 0, 0 },
    { "sample-tokens", 0, CLI_INT, AT(sample_tokens), "N", "and how long they are (default 100)", 1, 1e6 },
    { "export", 0, CLI_LIST, AT(export), "TYPE", "also write OUT/model-TYPE.gguf: F32, BF16, Q8_0, Q4_K_M …; may be given often", 0, 0 },
    { "resume", 'r', CLI_FLAG, AT(resume), NULL, "go on from the last good checkpoint in OUT", 0, 0 },
    { "threads", 't', CLI_INT, AT(threads), "N", "threads; the bits don't depend on it (default: one per core)", 1, TEAM_MAX_THREADS },
    { "isa", 0, CLI_TEXT, AT(isa), "NAME", "no faster kernels than these: ref, avx2, avx512, … (default all)", 0, 0 },
    METER_OPTIONS(struct train_options, meter),
    { "quiet", 'q', CLI_FLAG, AT(quiet), NULL, "only errors and the end", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

const struct train_options train_option_defaults = {
    .val_fraction = NAN, .split = TRAIN_NOT_GIVEN, .pack = TRAIN_NOT_GIVEN,
    .layers = TRAIN_NOT_GIVEN, .width = TRAIN_NOT_GIVEN, .heads = TRAIN_NOT_GIVEN,
    .kv_heads = TRAIN_NOT_GIVEN, .head_dim = TRAIN_NOT_GIVEN, .ff = TRAIN_NOT_GIVEN,
    .experts = TRAIN_NOT_GIVEN, .experts_used = TRAIN_NOT_GIVEN, .ssm_state = TRAIN_NOT_GIVEN,
    .lora_rank = TRAIN_NOT_GIVEN, .lora_alpha = NAN,
    .ctx = TRAIN_NOT_GIVEN, .batch = TRAIN_NOT_GIVEN, .accum = TRAIN_NOT_GIVEN,
    .steps = TRAIN_NOT_GIVEN, .epochs = NAN, .optimizer = TRAIN_NOT_GIVEN,
    .schedule = TRAIN_NOT_GIVEN, .lr = NAN, .min_lr = NAN, .beta1 = NAN, .beta2 = NAN, .eps = NAN,
    .momentum = NAN, .weight_decay = NAN, .clip = NAN, .ema = NAN, .dropout = NAN,
    .attn_dropout = NAN, .balance = NAN,
    .warmup = TRAIN_NOT_GIVEN, .decay = TRAIN_NOT_GIVEN, .seed = TRAIN_NOT_GIVEN,
    .compute = TRAIN_NOT_GIVEN, .eval_every = TRAIN_NOT_GIVEN, .eval_batches = TRAIN_NOT_GIVEN,
    .save_every = TRAIN_NOT_GIVEN, .keep = TRAIN_NOT_GIVEN, .sample_every = TRAIN_NOT_GIVEN,
    .sample_tokens = TRAIN_NOT_GIVEN, .threads = TRAIN_NOT_GIVEN,
};

/* ---- the file ---- */

static size_t size_of(enum cli_type type)
{
    switch (type) {
    case CLI_FLAG:
    case CLI_CLEAR:  return sizeof(bool);
    case CLI_INT:    return sizeof(int64_t);
    case CLI_REAL:   return sizeof(double);
    case CLI_BYTES:  return sizeof(uint64_t);
    case CLI_TEXT:
    case CLI_FILE:   return sizeof(const char *);
    case CLI_CHOICE: return sizeof(int);
    case CLI_LIST:   return sizeof(struct cli_list);
    }
    return 0;
}

/* Did the command line leave it open? Defaults are values that no option takes. */
static bool is_open(const struct cli_opt *row, const struct train_options *given)
{
    return memcmp((const char *)given + row->offset,
                  (const char *)&train_option_defaults + row->offset, size_of(row->type)) == 0;
}

static char *trim(char *s)
{
    size_t n;

    s += strspn(s, " \t\r");
    n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* A flag takes true or false; everything else what it takes on the command line. */
static int set_line(const char *name, const char *value, const struct train_options *given,
                    struct train_options *o, struct err *e)
{
    for (const struct cli_opt *row = train_option_table; row->name; row++) {
        if (strcmp(row->name, name) != 0)
            continue;
        if (strcmp(name, "config") == 0)
            return err_set(e, WATT_EINVAL, "config: a configuration does not name another");
        if (row->type == CLI_FLAG && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return err_set(e, WATT_EINVAL, "%s: expected true or false, found '%s'", name, value);
        if (!is_open(row, given) || (row->type == CLI_FLAG && value[0] == 'f'))
            return 0;
        if (row->type != CLI_LIST && !is_open(row, o))
            return err_set(e, WATT_EINVAL, "%s stands there twice", name);
        break;
    }
    return cli_set(train_option_table, name, value, o, e);
}

int train_config(const char *path, struct train_options *o, char **text, struct err *e)
{
    const struct train_options given = *o;
    unsigned number = 0;
    size_t size;
    char *next;
    int rc = file_read(path, MAX_CONFIG_BYTES, text, &size, e);

    if (rc < 0)
        return rc;
    if (memchr(*text, '\0', size))
        return err_set(e, WATT_EFORMAT, "%s: is no text", path);
    for (char *line = *text + (strncmp(*text, BOM, 3) == 0 ? 3 : 0); line; line = next) {
        char *equals;

        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        line = trim(line);
        if (*line == '\0' || *line == '#')
            continue;
        equals = strchr(line, '=');
        if (!equals)
            return err_set(e, WATT_EFORMAT, "%s: line %u: expected `option = value`", path, number);
        *equals = '\0';
        rc = set_line(trim(line), trim(equals + 1), &given, o, e);
        if (rc < 0)
            return err_prefix(e, "%s: line %u", path, number);
    }
    return 0;
}
