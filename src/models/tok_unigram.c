/* tok_unigram.c: SentencePiece Unigram ("t5"): the segmentation of the normalised
 * text with the highest sum of log probabilities (Viterbi over the pieces that
 * begin at each character), in double as Hugging Face's does. */
#include <float.h>

#include "base/mem.h"
#include "models/tok_impl.h"

/* The best way to a byte offset. */
struct lattice_node {
    double   score;
    uint32_t start, id;     /* the last piece: where it began; NO_TOKEN: unknown */
};

#define UNKNOWN_PENALTY 10.0

int unigram_open(struct tokenizer *t, struct err *e)
{
    uint32_t *ids = mem_array(t->n_vocab, sizeof *ids);
    double lowest = DBL_MAX;
    uint32_t n = 0;
    int rc;

    if (!ids)
        return tok_nomem(e);
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        if (t->kinds[id] == TOKEN_NORMAL && t->scores && t->scores[id] < lowest)
            lowest = t->scores[id];
        if (tok_matchable(t, id))
            ids[n++] = id;
    }
    t->unk_score = (lowest == DBL_MAX ? 0 : lowest) - UNKNOWN_PENALTY;
    rc = trie_init(&t->trie, &t->pieces, ids, n, e);
    mem_free(ids);
    return rc;
}

/* U+2581 in a text means a space, as in pieces. */
static void unescape(struct str *s)
{
    size_t n = 0;

    if (!s->data || !memmem(s->data, s->len, "\xE2\x96\x81", 3))
        return;
    for (size_t i = 0; i < s->len;) {
        if (s->len - i >= 3 && memcmp(s->data + i, "\xE2\x96\x81", 3) == 0) {
            s->data[n++] = ' ';
            i += 3;
        } else {
            s->data[n++] = s->data[i++];
        }
    }
    s->len = n;
}

static void offer(struct lattice_node *l, size_t from, size_t to, uint32_t id, double score)
{
    if (l[from].score + score > l[to].score)
        l[to] = (struct lattice_node){ l[from].score + score, (uint32_t)from, id };
}

static void viterbi(const struct tokenizer *t, const char *s, size_t n, struct lattice_node *l)
{
    uint32_t cp;
    size_t len;

    for (size_t i = 0; i < n; i += len) {
        bool whole = false;     /* is there a piece of exactly this character? */
        uint32_t node = 0;

        len = utf8_decode(s + i, n - i, &cp, NULL);
        for (size_t j = i; j < n;) {
            uint32_t id;

            node = trie_child(&t->trie, node, (uint8_t)s[j++]);
            if (node == 0)
                break;
            id = t->trie.nodes[node].token;
            if (id == NO_TOKEN)
                continue;
            whole = whole || j == i + len;
            offer(l, i, j, id, t->kinds[id] == TOKEN_USER_DEFINED || !t->scores
                                   ? 0 : (double)t->scores[id]);
        }
        if (!whole)
            offer(l, i, i + len, NO_TOKEN, t->unk_score);
    }
}

static int emit_path(const struct tokenizer *t, const char *s, size_t n,
                     const struct lattice_node *l, struct tokens *out, struct err *e)
{
    const size_t before = out->n;
    bool after_unknown = false;
    int rc = 0;

    for (size_t at = n; at > 0 && rc == 0; at = l[at].start) {
        const uint32_t id = l[at].id;

        if (id != NO_TOKEN) {
            rc = tok_emit(out, (int32_t)id, e);
        } else if (t->byte_fallback) {
            for (size_t i = at; i > l[at].start && rc == 0; i--)
                rc = tok_emit(out, t->byte_ids[(uint8_t)s[i - 1]], e);
        } else if (!after_unknown && t->roles[TOKEN_UNK] >= 0) {
            rc = tok_emit(out, t->roles[TOKEN_UNK], e);
        }
        after_unknown = id == NO_TOKEN;
    }
    for (size_t i = before, j = out->n; i + 1 < j; i++, j--) {
        const int32_t id = out->ids[i];

        out->ids[i] = out->ids[j - 1];
        out->ids[j - 1] = id;
    }
    return rc;
}

int unigram_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                   size_t len, bool prefix, struct tokens *out, struct err *e)
{
    struct lattice_node *l;
    int rc = norm_run(t, text, len, prefix && t->add_space_prefix, &s->text, e);
    size_t n;

    if (rc < 0)
        return rc;
    unescape(&s->text);
    n = s->text.len;
    if (n == 0)
        return 0;
    if (n >= UINT32_MAX)
        return err_set(e, WATT_ELIMIT, "tokenizer: the text is too long once normalised");
    if (!tok_room(&s->lattice, &s->cap_lattice, n + 1, sizeof *l))
        return tok_nomem(e);
    l = s->lattice;
    for (size_t i = 0; i <= n; i++)
        l[i] = (struct lattice_node){ -DBL_MAX, 0, NO_TOKEN };
    l[0].score = 0;
    viterbi(t, s->text.data, n, l);
    return emit_path(t, s->text.data, n, l, out, e);
}
