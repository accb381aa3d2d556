/* tokenizer.c: opens vocabularies, answers questions about them, and drives
 * encoding: added tokens first, then each stretch of ordinary text by the
 * vocabulary's own algorithm. */
#include "models/tokenizer.h"

#include <inttypes.h>

#include "base/mem.h"
#include "models/gguf.h"
#include "models/tok_impl.h"

/* ---- opening ---- */

void vocab_spec_init(struct vocab_spec *s)
{
    *s = (struct vocab_spec){
        .add_bos = -1, .add_eos = -1, .add_sep = -1, .add_space_prefix = -1,
        .remove_extra_whitespaces = -1, .escape_whitespaces = -1, .ignore_merges = -1,
        .lowercase = -1, .strip_accents = -1, .nfc = -1,
    };
    for (int r = 0; r < TOKEN_ROLES; r++)
        s->roles[r] = -1;
}

static int choose(int asked, bool customary) { return asked < 0 ? customary : asked == 1; }

/* A pre-tokenizer of its own patterns. */
static int own_pretok(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    struct pretok *p = &t->own_pretok;

    if (s->n_patterns > PRETOK_MAX_STAGES)
        return err_set(e, WATT_ELIMIT, "%s: a pre-tokenizer of %" PRIu32 " stages, more than %d",
                       t->name, s->n_patterns, PRETOK_MAX_STAGES);
    p->name = "of its own";
    for (uint32_t i = 0; i < s->n_patterns; i++) {
        char *copy;

        if (s->patterns[i].len == 0 || s->patterns[i].len > 16384 ||
            memchr(s->patterns[i].data, '\0', s->patterns[i].len))
            return err_set(e, WATT_EFORMAT, "%s: pattern %" PRIu32 " of its pre-tokenizer takes %zu"
                           " bytes or holds a zero", t->name, i, s->patterns[i].len);
        copy = mem_strndup(s->patterns[i].data, s->patterns[i].len);
        if (!copy)
            return tok_nomem(e);
        p->stages[p->n_stages++] = (struct split_stage){ .kind = SPLIT_REGEX, .regex = copy };
    }
    t->pretok = p;
    return 0;
}

static int set_type(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    static const struct { const char *model; enum tokenizer_type type; } models[] = {
        { "gpt2", TOKENIZER_BPE }, { "gemma4", TOKENIZER_BPE }, { "hybriddna", TOKENIZER_BPE },
        { "whitespace", TOKENIZER_BPE }, { "llama", TOKENIZER_SPM }, { "bert", TOKENIZER_WPM },
        { "t5", TOKENIZER_UGM }, { "rwkv", TOKENIZER_RWKV }, { "plamo2", TOKENIZER_PLAMO2 },
        { "none", TOKENIZER_NONE }, { "no_vocab", TOKENIZER_NONE },
    };
    const char *pre = strcmp(s->model, "gemma4") == 0       ? "gemma4"
                      : strcmp(s->model, "whitespace") == 0 ? "whitespace"
                      : s->pre                              ? s->pre
                                                            : "";
    size_t i = 0;

    while (i < sizeof models / sizeof *models && strcmp(models[i].model, s->model) != 0)
        i++;
    if (i == sizeof models / sizeof *models)
        return err_set(e, WATT_ENOTSUP, "%s: tokenizer.ggml.model \"%.60s\" is not known", t->name,
                       s->model);
    t->type = models[i].type;
    t->model = mem_strdup(s->model);
    t->pre = mem_strdup(pre);
    if (!t->model || !t->pre)
        return tok_nomem(e);
    t->dna = strcmp(s->model, "hybriddna") == 0;
    if (t->type != TOKENIZER_BPE)
        return 0;
    t->pretok = s->n_patterns ? NULL : pretok_find(sv_cstr(pre));
    if (s->n_patterns) {
        const int rc = own_pretok(t, s, e);

        if (rc < 0)
            return rc;
    }
    if (!t->pretok)
        return err_set(e, WATT_ENOTSUP, "%s: tokenizer.ggml.pre \"%.60s\" is not known", t->name,
                       pre);
    t->raw = t->pretok->raw;
    t->drop_space = strcmp(pre, "whitespace") == 0;
    t->ignore_merges = choose(s->ignore_merges, t->pretok->ignore_merges);
    t->nfc = choose(s->nfc, t->pretok->nfc);
    return 0;
}

static void set_flags(struct tokenizer *t, const struct vocab_spec *s)
{
    const bool sentence = t->type == TOKENIZER_SPM || t->type == TOKENIZER_UGM;

    t->add_space_prefix = choose(s->add_space_prefix, sentence);
    t->remove_extra_ws = choose(s->remove_extra_whitespaces, false);
    t->escape_ws = choose(s->escape_whitespaces,
                          t->type != TOKENIZER_BPE || (t->raw && !t->drop_space));
    t->lowercase = choose(s->lowercase, true);
    t->strip_accents = choose(s->strip_accents, t->lowercase);
}

static int copy_strings(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    uint32_t id, other;
    int rc;

    if (s->n_tokens > TOKENIZER_MAX_VOCAB)
        return err_set(e, WATT_ELIMIT, "%s: tokenizer.ggml.tokens: %" PRIu32
                       " tokens, more than %u", t->name, s->n_tokens, TOKENIZER_MAX_VOCAB);
    if (s->n_merges > TOKENIZER_MAX_MERGES)
        return err_set(e, WATT_ELIMIT, "%s: tokenizer.ggml.merges: %" PRIu32
                       " merges, more than %u", t->name, s->n_merges, TOKENIZER_MAX_MERGES);
    if (s->n_tokens == 0)
        return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.tokens is empty", t->name);
    t->n_vocab = s->n_tokens;
    rc = strtab_build(&t->texts, s->tokens, s->n_tokens, "tokenizer.ggml.tokens", e);
    if (rc < 0)
        return err_prefix(e, "%s", t->name);
    rc = strmap_init(&t->by_text, &t->texts, t->n_vocab, e);
    if (rc < 0)
        return rc;
    id = strmap_fill(&t->by_text, t, NULL, &other);
    if (id == NO_TOKEN)
        return 0;
    return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.tokens[%" PRIu32 "] \"%.*s\" is a"
                   " duplicate of [%" PRIu32 "]", t->name, id,
                   (int)(s->tokens[id].len > 80 ? 80 : s->tokens[id].len), s->tokens[id].data,
                   other);
}

static int copy_arrays(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    const size_t n = t->n_vocab;

    t->kinds = mem_array(n, 1);
    t->attrs = mem_calloc(n, 1);
    t->eog = mem_calloc(n, 1);
    if (!t->kinds || !t->attrs || !t->eog)
        return tok_nomem(e);
    for (size_t i = 0; i < n; i++) {
        const int32_t k = s->kinds ? s->kinds[i] : TOKEN_NORMAL;

        if (k < 0 || k > TOKEN_BYTE)
            return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.token_type[%zu] is %" PRId32
                           ", expected 1 to 6", t->name, i, k);
        t->kinds[i] = k == 0 ? TOKEN_NORMAL : (uint8_t)k;   /* 0: undefined */
    }
    if (s->attrs)
        memcpy(t->attrs, s->attrs, n);
    if (!s->scores)
        return 0;
    t->scores = mem_array(n, sizeof *t->scores);
    if (!t->scores)
        return tok_nomem(e);
    for (size_t i = 0; i < n; i++) {
        t->scores[i] = s->scores[i];
        if (s->scores[i] != s->scores[i])
            return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.scores[%zu] is not a number",
                           t->name, i);
    }
    return 0;
}

static int open_algorithm(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    switch (t->type) {
    case TOKENIZER_BPE:
        return bpe_open(t, s, e);
    case TOKENIZER_SPM:
        return spm_open(t, e);
    case TOKENIZER_WPM:
        return wpm_open(t, e);
    case TOKENIZER_UGM:
        return unigram_open(t, e);
    case TOKENIZER_RWKV:
        return rwkv_open(t, e);
    case TOKENIZER_PLAMO2:
        return plamo_open(t, e);
    case TOKENIZER_NONE:
        break;
    }
    return 0;
}

/* The line feed's own token, for models that look at it. */
static void find_newline(struct tokenizer *t)
{
    uint32_t id = strmap_find(&t->by_piece, "\n", 1);

    if (t->roles[TOKEN_NL] >= 0 || t->type == TOKENIZER_WPM)
        return;
    if (id == NO_TOKEN && t->byte_ids['\n'] >= 0)
        id = (uint32_t)t->byte_ids['\n'];
    if (id != NO_TOKEN)
        t->roles[TOKEN_NL] = (int32_t)id;
}

static void find_byte_tokens(struct tokenizer *t)
{
    unsigned n = 0;

    for (unsigned b = 0; b < 256; b++)
        t->byte_ids[b] = -1;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const int b = t->kinds[id] == TOKEN_BYTE ? byte_token_value(strtab_at(&t->texts, id)) : -1;

        if (b >= 0 && t->byte_ids[b] < 0) {
            t->byte_ids[b] = (int32_t)id;
            n++;
        }
    }
    t->byte_fallback = n == 256;
}

int tokenizer_open_spec(struct tokenizer **out, const struct vocab_spec *s, struct err *e)
{
    struct tokenizer *t = mem_calloc(1, sizeof *t);
    int rc;

    if (!t)
        return tok_nomem(e);
    for (int r = 0; r < TOKEN_ROLES; r++)
        t->roles[r] = -1;
    t->name = mem_strdup(s->name ? s->name : "vocabulary");
    rc = t->name ? set_type(t, s, e) : tok_nomem(e);
    if (rc < 0)
        goto fail;
    if (t->type == TOKENIZER_NONE) {
        t->n_vocab = s->n_tokens;
        *out = t;
        return 0;
    }
    set_flags(t, s);
    rc = copy_strings(t, s, e);
    if (rc == 0)
        rc = copy_arrays(t, s, e);
    if (rc == 0)
        rc = roles_detect(t, s, e);
    if (rc == 0)
        rc = vocab_make_pieces(t, e);
    if (rc < 0)
        goto fail;
    find_byte_tokens(t);
    rc = norm_open(t, s->charsmap, e);
    if (rc == 0)
        rc = special_open(t, e);
    if (rc == 0)
        rc = open_algorithm(t, s, e);
    if (rc < 0)
        goto fail;
    find_newline(t);
    *out = t;
    return 0;
fail:
    tokenizer_close(t);
    return rc;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    splitter_close(t->splitter);
    for (unsigned i = 0; i < t->own_pretok.n_stages; i++)
        mem_free((void *)(uintptr_t)t->own_pretok.stages[i].regex);
    merges_deinit(&t->merges);
    trie_deinit(&t->trie);
    special_close(t->special);
    norm_close(t->norm);
    strmap_deinit(&t->by_text);
    strmap_deinit(&t->by_piece);
    strmap_deinit(&t->by_extra);
    strtab_deinit(&t->texts);
    strtab_deinit(&t->pieces);
    strtab_deinit(&t->extra);
    mem_free(t->char_ids);
    mem_free(t->scores);
    mem_free(t->kinds);
    mem_free(t->attrs);
    mem_free(t->eog);
    mem_free(t->model);
    mem_free(t->pre);
    mem_free(t->name);
    mem_free(t);
}

/* ---- questions ---- */

static bool has_id(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab && t->type != TOKENIZER_NONE;
}

enum tokenizer_type tokenizer_type(const struct tokenizer *t) { return t->type; }
const char *tokenizer_pre(const struct tokenizer *t) { return t->pre; }
uint32_t tokenizer_n_vocab(const struct tokenizer *t) { return t->n_vocab; }
uint32_t tokenizer_n_merges(const struct tokenizer *t) { return t->n_merges; }
bool tokenizer_add_bos(const struct tokenizer *t) { return t->add_bos; }
bool tokenizer_add_eos(const struct tokenizer *t) { return t->add_eos; }

const char *tokenizer_type_name(enum tokenizer_type type)
{
    static const char *const names[] = {
        [TOKENIZER_NONE] = "none", [TOKENIZER_BPE] = "BPE", [TOKENIZER_SPM] = "SPM",
        [TOKENIZER_WPM] = "WPM", [TOKENIZER_UGM] = "UGM", [TOKENIZER_RWKV] = "RWKV",
        [TOKENIZER_PLAMO2] = "PLaMo2",
    };

    return (unsigned)type < sizeof names / sizeof *names ? names[type] : "?";
}

int32_t tokenizer_role(const struct tokenizer *t, enum token_role role)
{
    return (unsigned)role < TOKEN_ROLES ? t->roles[role] : -1;
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    return has_id(t, id) && t->eog[id];
}

enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id)
{
    return has_id(t, id) ? (enum token_kind)t->kinds[id] : TOKEN_UNUSED;
}

unsigned tokenizer_attrs(const struct tokenizer *t, int32_t id)
{
    return has_id(t, id) ? t->attrs[id] : 0;
}

struct sv tokenizer_text(const struct tokenizer *t, int32_t id)
{
    return has_id(t, id) ? strtab_at(&t->texts, (uint32_t)id) : (struct sv){ "", 0 };
}

float tokenizer_score(const struct tokenizer *t, int32_t id)
{
    return has_id(t, id) && t->scores ? t->scores[id] : 0;
}

int32_t tokenizer_find(const struct tokenizer *t, struct sv text)
{
    uint32_t id;

    if (t->type == TOKENIZER_NONE || text.len == 0)
        return -1;
    id = strmap_find(&t->by_text, text.data, text.len);
    return id == NO_TOKEN ? -1 : (int32_t)id;
}

struct sv tokenizer_piece(const struct tokenizer *t, int32_t id)
{
    return has_id(t, id) ? strtab_at(&t->pieces, (uint32_t)id) : (struct sv){ "", 0 };
}

/* ---- lists of ids ---- */

void tokens_deinit(struct tokens *v)
{
    mem_free(v->ids);
    *v = (struct tokens){ 0 };
}

bool tokens_reserve(struct tokens *v, size_t n_more)
{
    return n_more <= SIZE_MAX - v->n && tok_room(&v->ids, &v->cap, v->n + n_more, sizeof *v->ids);
}

bool tokens_push(struct tokens *v, int32_t id)
{
    if (v->n == v->cap && !tokens_reserve(v, 1))
        return false;
    v->ids[v->n++] = id;
    return true;
}

/* ---- encoding ---- */

int tokenizer_scratch_open(struct tokenizer_scratch **out, const struct tokenizer *t,
                           struct err *e)
{
    struct tokenizer_scratch *s = mem_calloc(1, sizeof *s);
    int rc = 0;

    if (!s)
        return tok_nomem(e);
    str_init(&s->text, 4 * TOKENIZER_MAX_TEXT_BYTES);
    str_init(&s->text2, 4 * TOKENIZER_MAX_TEXT_BYTES);
    if (t->splitter)
        rc = split_scratch_open(&s->split, t->splitter, e);
    if (rc == 0 && (t->type == TOKENIZER_BPE || t->type == TOKENIZER_SPM))
        rc = cache_open(&s->cache, e);
    if (rc < 0) {
        tokenizer_scratch_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void tokenizer_scratch_close(struct tokenizer_scratch *s)
{
    if (!s)
        return;
    split_scratch_close(s->split);
    cache_close(s->cache);
    mem_free(s->symbols);
    mem_free(s->heap);
    mem_free(s->lattice);
    str_deinit(&s->text);
    str_deinit(&s->text2);
    mem_free(s);
}

static int encode_fragment(const struct tokenizer *t, struct tokenizer_scratch *s,
                           const char *text, size_t len, bool prefix, struct tokens *out,
                           struct err *e)
{
    switch (t->type) {
    case TOKENIZER_BPE:
        return bpe_encode(t, s, text, len, out, e);
    case TOKENIZER_SPM:
        return spm_encode(t, s, text, len, prefix, out, e);
    case TOKENIZER_WPM:
        return wpm_encode(t, s, text, len, out, e);
    case TOKENIZER_UGM:
        return unigram_encode(t, s, text, len, prefix, out, e);
    case TOKENIZER_RWKV:
        return rwkv_encode(t, text, len, out, e);
    case TOKENIZER_PLAMO2:
        return plamo_encode(t, s, text, len, out, e);
    case TOKENIZER_NONE:
        break;
    }
    return err_set(e, WATT_ENOTSUP, "%s: the model has no text vocabulary", t->name);
}

static int encode_body(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                       size_t len, unsigned flags, struct tokens *out, struct err *e)
{
    bool prefix = !(flags & TOKENIZE_NO_PREFIX);
    size_t at = 0;
    int rc = 0;

    while (at < len && rc == 0) {
        struct special_hit hit;
        const bool found = special_next(t, text, at, len, flags & TOKENIZE_PARSE_SPECIAL, &hit);
        const size_t end = found ? hit.start : len;

        if (end > at)
            rc = encode_fragment(t, s, text + at, end - at, prefix, out, e);
        if (!found)
            break;
        if (rc == 0)
            rc = tok_emit(out, hit.id, e);
        prefix = true;
        at = hit.end;
    }
    return rc;
}

static int encode_with(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                       size_t len, unsigned flags, struct tokens *out, struct err *e)
{
    const bool special = flags & TOKENIZE_ADD_SPECIAL;
    const size_t before = out->n;
    int rc = 0;

    if (special && t->add_bos && !(flags & TOKENIZE_NO_BOS))
        rc = tok_emit(out, t->roles[TOKEN_BOS], e);
    if (rc == 0)
        rc = encode_body(t, s, text, len, flags, out, e);
    /* WordPiece texts end with sep, whether or not the file calls it eos as well */
    if (rc == 0 && special && t->type == TOKENIZER_WPM && t->roles[TOKEN_SEP] >= 0)
        rc = tok_emit(out, t->roles[TOKEN_SEP], e);
    else if (rc == 0 && special && t->add_eos)
        rc = tok_emit(out, t->roles[TOKEN_EOS], e);
    if (rc < 0)
        out->n = before;
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *scratch,
                     const char *text, size_t len, unsigned flags, struct tokens *out,
                     struct err *e)
{
    struct tokenizer_scratch *own = NULL;
    int rc;

    if (t->type == TOKENIZER_NONE)
        return err_set(e, WATT_ENOTSUP, "%s: the model has no text vocabulary", t->name);
    if (len > TOKENIZER_MAX_TEXT_BYTES)
        return err_set(e, WATT_ELIMIT, "tokenizer: a text of %zu bytes, more than %zu", len,
                       TOKENIZER_MAX_TEXT_BYTES);
    if (!scratch) {
        rc = tokenizer_scratch_open(&own, t, e);
        if (rc < 0)
            return rc;
        scratch = own;
    }
    rc = encode_with(t, scratch, text, len, flags, out, e);
    tokenizer_scratch_close(own);
    return rc;
}
