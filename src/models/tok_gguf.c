/* tok_gguf.c: a vocabulary as GGUF files describe it: reads the tokenizer.ggml.*
 * keys into a struct vocab_spec and opens that. Strings stay views into the file
 * until tokenizer_open_spec has copied them. */
#include <ctype.h>
#include <inttypes.h>

#include "base/mem.h"
#include "models/gguf.h"
#include "models/tok_impl.h"

#define PREFIX "tokenizer.ggml."
#define OURS "watt.tokenizer."   /* what the format has no keys for; see models/hf/tokenizer.c */

struct gguf_vocab {
    struct vocab_spec spec;
    struct sv        *tokens, *merges, *patterns;
    float            *scores;
    int32_t          *kinds;
    uint8_t          *attrs;
    char             *model, *pre;
};

static void gguf_vocab_deinit(struct gguf_vocab *v)
{
    mem_free(v->tokens);
    mem_free(v->merges);
    mem_free(v->patterns);
    mem_free(v->scores);
    mem_free(v->kinds);
    mem_free(v->attrs);
    mem_free(v->model);
    mem_free(v->pre);
}

static int bad_key(const struct gguf *g, const char *key, const char *what, struct err *e)
{
    return err_set(e, WATT_EFORMAT, "%s: %s: %s", gguf_path(g), key, what);
}

/* An optional string, copied; *out stays NULL when the key is absent. */
static int read_name(const struct gguf *g, const char *key, char **out, struct err *e)
{
    struct sv v;
    int rc;

    if (!gguf_find(g, key))
        return 0;
    rc = gguf_get_str(g, key, &v, e);
    if (rc < 0)
        return rc;
    if (v.len > 255 || memchr(v.data, '\0', v.len))
        return bad_key(g, key, "a name of at most 255 characters expected", e);
    *out = mem_strndup(v.data, v.len);
    return *out ? 0 : tok_nomem(e);
}

static int read_strings(const struct gguf *g, const char *key, uint32_t max, struct sv **out,
                        uint32_t *n, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (!kv)
        return 0;
    if (!kv->is_array || kv->type != GGUF_STRING)
        return bad_key(g, key, "expected an array of strings", e);
    if (kv->n > max)
        return err_set(e, WATT_ELIMIT, "%s: %s: %" PRIu64 " entries, more than %" PRIu32,
                       gguf_path(g), key, kv->n, max);
    *out = mem_array(kv->n, sizeof **out);
    if (!*out)
        return tok_nomem(e);
    for (uint64_t i = 0; i < kv->n; i++)
        if (!gguf_elem_str(g, kv, i, &(*out)[i]))
            return bad_key(g, key, "an entry can't be read", e);
    *n = (uint32_t)kv->n;
    return 0;
}

/* Arrays beside the tokens must have as many entries or more. */
static int beside(const struct gguf *g, const char *key, uint32_t n, const struct gguf_kv **out,
                  struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);

    if (kv && !kv->is_array)
        return bad_key(g, key, "expected an array", e);
    if (kv && kv->n < n)
        return err_set(e, WATT_EFORMAT, "%s: %s: %" PRIu64 " entries for %" PRIu32 " tokens",
                       gguf_path(g), key, kv->n, n);
    *out = kv;
    return 0;
}

static int read_numbers(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    const uint32_t n = v->spec.n_tokens;
    const struct gguf_kv *scores, *kinds;
    int rc = beside(g, PREFIX "scores", n, &scores, e);

    if (rc == 0)
        rc = beside(g, PREFIX "token_type", n, &kinds, e);
    if (rc < 0)
        return rc;
    if ((scores && !(v->scores = mem_array(n, sizeof *v->scores))) ||
        (kinds && !(v->kinds = mem_array(n, sizeof *v->kinds))))
        return tok_nomem(e);
    for (uint32_t i = 0; i < n; i++) {
        double score;
        int64_t kind;

        if (scores && !gguf_elem_f64(scores, i, &score))
            return bad_key(g, PREFIX "scores", "expected numbers", e);
        if (scores)
            v->scores[i] = (float)score;
        if (!kinds)
            continue;
        if (!gguf_elem_i64(kinds, i, &kind) || kind < 0 || kind > TOKEN_BYTE)
            return err_set(e, WATT_EFORMAT, "%s: " PREFIX "token_type[%" PRIu32
                           "]: expected 1 to 6", gguf_path(g), i);
        v->kinds[i] = (int32_t)kind;
    }
    v->spec.scores = v->scores;
    v->spec.kinds = v->kinds;
    return 0;
}

/* Ids with a role. 4294967295 stands for none in some files. The file format
 * itself spells "seperator". */
static int read_roles(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    static const struct { const char *key; enum token_role role; } keys[] = {
        { PREFIX "prefix_token_id", TOKEN_FIM_PRE }, { PREFIX "suffix_token_id", TOKEN_FIM_SUF },
        { PREFIX "middle_token_id", TOKEN_FIM_MID },     /* older names first */
        { PREFIX "bos_token_id", TOKEN_BOS }, { PREFIX "eos_token_id", TOKEN_EOS },
        { PREFIX "eot_token_id", TOKEN_EOT }, { PREFIX "eom_token_id", TOKEN_EOM },
        { PREFIX "unknown_token_id", TOKEN_UNK }, { PREFIX "seperator_token_id", TOKEN_SEP },
        { PREFIX "padding_token_id", TOKEN_PAD }, { PREFIX "cls_token_id", TOKEN_CLS },
        { PREFIX "mask_token_id", TOKEN_MASK }, { PREFIX "fim_pre_token_id", TOKEN_FIM_PRE },
        { PREFIX "fim_suf_token_id", TOKEN_FIM_SUF }, { PREFIX "fim_mid_token_id", TOKEN_FIM_MID },
        { PREFIX "fim_pad_token_id", TOKEN_FIM_PAD }, { PREFIX "fim_rep_token_id", TOKEN_FIM_REP },
        { PREFIX "fim_sep_token_id", TOKEN_FIM_SEP },
    };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        uint32_t id;
        int rc;

        if (!gguf_find(g, keys[i].key))
            continue;
        rc = gguf_get_u32(g, keys[i].key, &id, e);
        if (rc < 0)
            return rc;
        if (id == UINT32_MAX)
            continue;
        if (id >= v->spec.n_tokens)
            return err_set(e, WATT_EFORMAT, "%s: %s is %" PRIu32 ", the vocabulary has %" PRIu32
                           " tokens", gguf_path(g), keys[i].key, id, v->spec.n_tokens);
        v->spec.roles[keys[i].role] = (int32_t)id;
    }
    return 0;
}

static int read_flags(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    const struct { const char *key; int *out; } keys[] = {
        { PREFIX "add_bos_token", &v->spec.add_bos },
        { PREFIX "add_eos_token", &v->spec.add_eos },
        { PREFIX "add_sep_token", &v->spec.add_sep },
        { PREFIX "add_space_prefix", &v->spec.add_space_prefix },
        { PREFIX "remove_extra_whitespaces", &v->spec.remove_extra_whitespaces },
        { PREFIX "normalizer.lowercase", &v->spec.lowercase },
        { PREFIX "normalizer.strip_accents", &v->spec.strip_accents },
        { OURS "ignore_merges", &v->spec.ignore_merges },
        { OURS "nfc", &v->spec.nfc },
    };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool b;
        int rc;

        if (!gguf_find(g, keys[i].key))
            continue;
        rc = gguf_get_bool(g, keys[i].key, &b, e);
        if (rc < 0)
            return rc;
        *keys[i].out = b;
    }
    return 0;
}

static int read_charsmap(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, PREFIX "precompiled_charsmap");

    if (!kv || kv->n == 0)
        return 0;
    if (!kv->is_array || (kv->type != GGUF_U8 && kv->type != GGUF_I8))
        return bad_key(g, PREFIX "precompiled_charsmap", "expected an array of bytes", e);
    v->spec.charsmap = (struct sv){ (const char *)kv->data, (size_t)kv->n };
    return 0;
}

/* ---- what files leave out: how added tokens treat the space around them ---- */

static bool name_has(struct sv name, const char *part)
{
    const size_t n = strlen(part);

    for (size_t i = 0; i + n <= name.len; i++) {
        size_t k = 0;

        while (k < n && tolower((unsigned char)name.data[i + k]) == part[k])
            k++;
        if (k == n)
            return true;
    }
    return false;
}

static struct sv optional_str(const struct gguf *g, const char *key)
{
    struct sv v;

    return gguf_find(g, key) && gguf_get_str(g, key, &v, NULL) == 0 ? v : (struct sv){ "", 0 };
}

/* The key that our own files have. */
static int own_attrs(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, OURS "attrs");

    if (!kv->is_array || kv->type != GGUF_U8 || kv->n != v->spec.n_tokens)
        return bad_key(g, OURS "attrs", "expected a byte for each token", e);
    v->attrs = mem_alloc((size_t)kv->n);
    if (!v->attrs)
        return tok_nomem(e);
    for (uint64_t i = 0; i < kv->n; i++)
        v->attrs[i] = kv->data[i] & (TOKEN_LSTRIP | TOKEN_RSTRIP | TOKEN_SINGLE_WORD);
    v->spec.attrs = v->attrs;
    return 0;
}

static int add_attrs(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    const struct sv name = optional_str(g, "general.name");
    const struct sv arch = optional_str(g, "general.architecture");
    const struct sv pre = v->pre ? sv_cstr(v->pre) : (struct sv){ "", 0 };
    const bool phi3 = name_has(name, "phi-3") || name_has(name, "phi3");
    const bool mask = name_has(pre, "jina-v2-") || sv_eq_cstr(arch, "nomic-bert-moe") ||
                      sv_eq_cstr(arch, "jina-bert-v3");
    const bool bracket = name_has(name, "modern-bert") || name_has(pre, "modern-bert");

    if (gguf_find(g, OURS "attrs"))
        return own_attrs(g, v, e);
    if (!phi3 && !mask && !bracket)
        return 0;
    v->attrs = mem_calloc(v->spec.n_tokens, 1);
    if (!v->attrs)
        return tok_nomem(e);
    for (uint32_t i = 0; i < v->spec.n_tokens; i++) {
        const struct sv s = v->tokens[i];
        const int32_t k = v->kinds ? v->kinds[i] : TOKEN_NORMAL;
        const bool added = k == TOKEN_CONTROL || k == TOKEN_USER_DEFINED || k == TOKEN_UNKNOWN;

        if (phi3 && (added || sv_eq_cstr(s, "</s>")) && !sv_eq_cstr(s, "<unk>") &&
            !sv_eq_cstr(s, "<s>") && !sv_eq_cstr(s, "<|endoftext|>"))
            v->attrs[i] |= TOKEN_RSTRIP;
        if ((mask && sv_eq_cstr(s, "<mask>")) || (bracket && sv_eq_cstr(s, "[MASK]")))
            v->attrs[i] |= TOKEN_LSTRIP;
    }
    v->spec.attrs = v->attrs;
    return 0;
}

static int read_vocab(const struct gguf *g, struct gguf_vocab *v, struct err *e)
{
    struct vocab_spec *s = &v->spec;
    int rc = read_name(g, PREFIX "model", &v->model, e);

    if (rc == 0)
        rc = read_name(g, PREFIX "pre", &v->pre, e);
    if (rc < 0)
        return rc;
    if (!v->model)
        return err_set(e, WATT_ENOENT, "%s: there is no " PREFIX "model: no tokenizer in this"
                       " file", gguf_path(g));
    s->name = gguf_path(g);
    s->model = v->model;
    s->pre = v->pre;
    rc = read_strings(g, PREFIX "tokens", TOKENIZER_MAX_VOCAB, &v->tokens, &s->n_tokens, e);
    if (rc == 0)
        rc = read_strings(g, PREFIX "merges", TOKENIZER_MAX_MERGES, &v->merges, &s->n_merges, e);
    if (rc == 0)
        rc = read_strings(g, OURS "patterns", 64, &v->patterns, &s->n_patterns, e);
    s->tokens = v->tokens;
    s->merges = v->merges;
    s->patterns = v->patterns;
    if (rc == 0 && (strcmp(v->model, "none") == 0 || strcmp(v->model, "no_vocab") == 0))
        return 0;
    if (rc == 0 && s->n_tokens == 0)
        rc = bad_key(g, PREFIX "tokens", "missing or empty", e);
    if (rc == 0)
        rc = read_numbers(g, v, e);
    if (rc == 0)
        rc = read_roles(g, v, e);
    if (rc == 0)
        rc = read_flags(g, v, e);
    if (rc == 0)
        rc = read_charsmap(g, v, e);
    return rc == 0 ? add_attrs(g, v, e) : rc;
}

int tokenizer_open(struct tokenizer **out, const struct gguf *g, struct err *e)
{
    struct gguf_vocab v = { 0 };
    int rc;

    vocab_spec_init(&v.spec);
    rc = read_vocab(g, &v, e);
    if (rc == 0)
        rc = tokenizer_open_spec(out, &v.spec, e);
    gguf_vocab_deinit(&v);
    return rc;
}
