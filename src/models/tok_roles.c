/* tok_roles.c: ids with a role (bos, turn ends, fill-in-the-middle): those a file
 * names, its tokenizer's customary ones, and those known by their spelling, which
 * many files leave out. */
#include <inttypes.h>

#include "models/tok_impl.h"

struct spelling { enum token_role role; const char *text; };

/* In order of preference within a role. */
static const struct spelling known[] = {
    { TOKEN_EOT, "<|eot_id|>" }, { TOKEN_EOT, "<|im_end|>" }, { TOKEN_EOT, "<|end|>" },
    { TOKEN_EOT, "<end_of_turn>" }, { TOKEN_EOT, "<|endoftext|>" },
    { TOKEN_EOT, "<|end_of_text|>" }, { TOKEN_EOT, "<EOT>" }, { TOKEN_EOT, "_<EOT>" },
    { TOKEN_EOT, "[EOT]" }, { TOKEN_EOT, "<｜end▁of▁sentence｜>" },
    { TOKEN_EOT, "<end_of_utterance>" },
    { TOKEN_EOM, "<|eom_id|>" },
    { TOKEN_FIM_PRE, "<|fim_prefix|>" }, { TOKEN_FIM_PRE, "<fim-prefix>" },
    { TOKEN_FIM_PRE, "<fim_prefix>" }, { TOKEN_FIM_PRE, "<｜fim▁begin｜>" },
    { TOKEN_FIM_PRE, "<PRE>" }, { TOKEN_FIM_PRE, "▁<PRE>" }, { TOKEN_FIM_PRE, "<|code_prefix|>" },
    { TOKEN_FIM_PRE, "<|prefix|>" },
    { TOKEN_FIM_SUF, "<|fim_suffix|>" }, { TOKEN_FIM_SUF, "<fim-suffix>" },
    { TOKEN_FIM_SUF, "<fim_suffix>" }, { TOKEN_FIM_SUF, "<｜fim▁hole｜>" },
    { TOKEN_FIM_SUF, "<SUF>" }, { TOKEN_FIM_SUF, "▁<SUF>" }, { TOKEN_FIM_SUF, "<|code_suffix|>" },
    { TOKEN_FIM_SUF, "<|suffix|>" },
    { TOKEN_FIM_MID, "<|fim_middle|>" }, { TOKEN_FIM_MID, "<fim-middle>" },
    { TOKEN_FIM_MID, "<fim_middle>" }, { TOKEN_FIM_MID, "<｜fim▁end｜>" },
    { TOKEN_FIM_MID, "<MID>" }, { TOKEN_FIM_MID, "▁<MID>" }, { TOKEN_FIM_MID, "<|code_middle|>" },
    { TOKEN_FIM_MID, "<|middle|>" },
    { TOKEN_FIM_PAD, "<|fim_pad|>" }, { TOKEN_FIM_PAD, "<fim-pad>" },
    { TOKEN_FIM_PAD, "<fim_pad>" }, { TOKEN_FIM_PAD, "<PAD>" }, { TOKEN_FIM_PAD, "[PAD]" },
    { TOKEN_FIM_REP, "<|fim_repo|>" }, { TOKEN_FIM_REP, "<|repo_name|>" },
    { TOKEN_FIM_REP, "<fim-repo>" }, { TOKEN_FIM_REP, "<REPO>" }, { TOKEN_FIM_REP, "<reponame>" },
    { TOKEN_FIM_SEP, "<|file_sep|>" },
};

/* What ends a generation wherever it stands in a vocabulary. */
static const char *const ends[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
};

/* What a vocabulary that names no ids has always meant. WordPiece looks its own up
 * by spelling; byte-level BPE has no custom. */
static const struct { enum tokenizer_type type; enum token_role role; int32_t id; } customary[] = {
    { TOKENIZER_SPM, TOKEN_BOS, 1 }, { TOKENIZER_SPM, TOKEN_EOS, 2 }, { TOKENIZER_SPM, TOKEN_UNK, 0 },
    { TOKENIZER_UGM, TOKEN_EOS, 1 }, { TOKENIZER_UGM, TOKEN_UNK, 2 }, { TOKENIZER_UGM, TOKEN_PAD, 0 },
    { TOKENIZER_PLAMO2, TOKEN_BOS, 1 }, { TOKENIZER_PLAMO2, TOKEN_EOS, 2 },
    { TOKENIZER_PLAMO2, TOKEN_UNK, 0 }, { TOKENIZER_PLAMO2, TOKEN_PAD, 3 },
};

static int32_t find(const struct tokenizer *t, const char *text)
{
    return tokenizer_find(t, sv_cstr(text));
}

/* A turn end that is marked as normal text would be made from what users write. */
static void make_control(struct tokenizer *t, int32_t id)
{
    if (t->kinds[id] == TOKEN_NORMAL || t->kinds[id] == TOKEN_USER_DEFINED)
        t->kinds[id] = TOKEN_CONTROL;
}

static void wordpiece_roles(struct tokenizer *t)
{
    static const struct spelling s[] = {
        { TOKEN_CLS, "[CLS]" }, { TOKEN_SEP, "[SEP]" }, { TOKEN_UNK, "[UNK]" },
        { TOKEN_PAD, "[PAD]" }, { TOKEN_MASK, "[MASK]" },
    };

    for (size_t i = 0; i < sizeof s / sizeof *s; i++)
        if (t->roles[s[i].role] < 0)
            t->roles[s[i].role] = find(t, s[i].text);
    if (t->roles[TOKEN_BOS] < 0)
        t->roles[TOKEN_BOS] = t->roles[TOKEN_CLS];
}

static void mark_ends(struct tokenizer *t)
{
    static const enum token_role roles[] = { TOKEN_EOS, TOKEN_EOT, TOKEN_EOM, TOKEN_FIM_PAD,
                                             TOKEN_FIM_REP, TOKEN_FIM_SEP };
    const int32_t end = find(t, "<|end|>"), eos = find(t, "</s>");
    const bool call = find(t, "<|call|>") >= 0 || find(t, "<|calls|>") >= 0;

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const int32_t id = find(t, ends[i]);

        if (id >= 0) {
            t->eog[id] = 1;
            make_control(t, id);
        }
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (t->roles[roles[i]] >= 0)
            t->eog[t->roles[roles[i]]] = 1;
    /* Where <|return|> or <|flush|> ends a turn, <|end|> ends only a message. */
    if (end >= 0 && call && (find(t, "<|return|>") >= 0 || find(t, "<|flush|>") >= 0))
        t->eog[end] = 0;
    /* Gemma 4 has an HTML tag of that name. */
    if (eos >= 0 && find(t, "<|tool_response>") >= 0) {
        t->eog[eos] = 0;
        t->kinds[eos] = TOKEN_NORMAL;
    }
}

static int take_given(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    static const char *const names[TOKEN_ROLES] = {
        [TOKEN_BOS] = "bos", [TOKEN_EOS] = "eos", [TOKEN_EOT] = "eot", [TOKEN_EOM] = "eom",
        [TOKEN_UNK] = "unknown", [TOKEN_SEP] = "seperator", [TOKEN_PAD] = "padding",
        [TOKEN_CLS] = "cls", [TOKEN_MASK] = "mask", [TOKEN_NL] = "newline",
        [TOKEN_FIM_PRE] = "fim_pre", [TOKEN_FIM_SUF] = "fim_suf", [TOKEN_FIM_MID] = "fim_mid",
        [TOKEN_FIM_PAD] = "fim_pad", [TOKEN_FIM_REP] = "fim_rep", [TOKEN_FIM_SEP] = "fim_sep",
    };

    for (int r = 0; r < TOKEN_ROLES; r++) {
        t->roles[r] = s->roles[r];
        if (s->roles[r] >= 0 && (uint32_t)s->roles[r] >= t->n_vocab)
            return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.%s_token_id is %" PRId32
                           ", the vocabulary has %" PRIu32 " tokens", t->name, names[r],
                           s->roles[r], t->n_vocab);
    }
    return 0;
}

static int adding(const struct tokenizer *t, int asked, bool customary_value, enum token_role r,
                  const char *key, bool *out, struct err *e)
{
    if (asked == 1 && t->roles[r] < 0)
        return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.add_%s_token is true, but there is no"
                       " tokenizer.ggml.%s_token_id", t->name, key, key);
    *out = (asked < 0 ? customary_value : asked == 1) && t->roles[r] >= 0;
    return 0;
}

int roles_detect(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    bool bos = t->type == TOKENIZER_SPM || t->type == TOKENIZER_WPM;
    int rc = take_given(t, s, e);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof customary / sizeof *customary; i++)
        if (customary[i].type == t->type && t->roles[customary[i].role] < 0 &&
            (uint32_t)customary[i].id < t->n_vocab)
            t->roles[customary[i].role] = customary[i].id;
    if (t->type == TOKENIZER_WPM)
        wordpiece_roles(t);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (t->roles[known[i].role] < 0 && t->type != TOKENIZER_WPM) {
            const int32_t id = find(t, known[i].text);

            if (id >= 0) {
                t->roles[known[i].role] = id;
                make_control(t, id);
            }
        }
    mark_ends(t);
    if (t->type == TOKENIZER_BPE)
        bos = t->pretok->add_bos;
    rc = adding(t, s->add_bos, bos, TOKEN_BOS, "bos", &t->add_bos, e);
    if (rc == 0)
        rc = adding(t, s->add_eos, t->type == TOKENIZER_UGM, TOKEN_EOS, "eos", &t->add_eos, e);
    t->add_sep = s->add_sep == 1;
    return rc;
}
