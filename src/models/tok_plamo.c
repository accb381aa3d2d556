/* tok_plamo.c: PLaMo-2's tokenizer: the cheapest segmentation, found from the end of
 * the text. A piece costs its score times -10,000, rounded; a character without a
 * piece costs ten million and is spelled in bytes. Of equally cheap ways the
 * longest first piece wins. */
#include <math.h>

#include "base/mem.h"
#include "models/tok_impl.h"

#define UNKNOWN_COST 10000000
#define NO_COST      20000000   /* pieces this expensive are never used */

struct plamo_node {
    int64_t  cost;
    uint32_t id, len;   /* the piece that begins here; NO_TOKEN: bytes */
};

static int64_t cost_of(const struct tokenizer *t, uint32_t id)
{
    const double c = t->scores ? -round((double)t->scores[id] * 1e4) : 0;

    return c >= NO_COST || !isfinite(c) ? NO_COST : c <= -NO_COST ? -NO_COST : (int64_t)c;
}

int plamo_open(struct tokenizer *t, struct err *e)
{
    uint32_t *ids = mem_array(t->n_vocab, sizeof *ids);
    uint32_t n = 0;
    int rc;

    if (!ids)
        return tok_nomem(e);
    for (unsigned b = 0; b < 256; b++)
        if (t->byte_ids[b] < 0) {
            mem_free(ids);
            return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.tokens: no byte token <0x%02X>",
                           t->name, b);
        }
    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (tok_matchable(t, id) && cost_of(t, id) < NO_COST)
            ids[n++] = id;
    rc = trie_init(&t->trie, &t->pieces, ids, n, e);
    mem_free(ids);
    return rc;
}

static size_t char_len(const char *s, size_t i, size_t n)
{
    uint32_t cp;

    return utf8_decode(s + i, n - i, &cp, NULL);
}

static void cheapest(const struct tokenizer *t, const char *s, size_t i, size_t n,
                     struct plamo_node *p)
{
    const size_t len = char_len(s, i, n);
    uint32_t node = 0;

    p[i] = (struct plamo_node){ p[i + len].cost + UNKNOWN_COST, NO_TOKEN, (uint32_t)len };
    for (size_t j = i; j < n;) {
        uint32_t id;
        int64_t c;

        node = trie_child(&t->trie, node, (uint8_t)s[j++]);
        if (node == 0)
            return;
        id = t->trie.nodes[node].token;
        if (id == NO_TOKEN || (j < n && ((unsigned char)s[j] & 0xC0) == 0x80))
            continue;
        c = p[j].cost + cost_of(t, id);
        if (c <= p[i].cost)     /* longer pieces come later */
            p[i] = (struct plamo_node){ c, id, (uint32_t)(j - i) };
    }
}

int plamo_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                 size_t len, struct tokens *out, struct err *e)
{
    struct plamo_node *p;
    int rc = 0;

    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {     /* a byte order mark */
        text += 3;
        len -= 3;
    }
    if (!tok_room(&s->lattice, &s->cap_lattice, len + 1, sizeof *p))
        return tok_nomem(e);
    p = s->lattice;
    p[len].cost = 0;
    for (size_t i = len; i-- > 0;) {
        /* inside of a character nothing begins; a stray byte is one of its own */
        size_t lead = i;

        while (lead > 0 && i - lead < 3 && ((unsigned char)text[lead] & 0xC0) == 0x80)
            lead--;
        if (lead < i && lead + char_len(text, lead, len) > i)
            p[i] = (struct plamo_node){ INT64_MAX / 2, NO_TOKEN, 1 };
        else
            cheapest(t, text, i, len, p);
    }
    for (size_t i = 0; i < len && rc == 0; i += p[i].len) {
        if (p[i].id != NO_TOKEN) {
            rc = tok_emit(out, (int32_t)p[i].id, e);
            continue;
        }
        for (uint32_t k = 0; k < p[i].len && rc == 0; k++)
            rc = tok_emit(out, t->byte_ids[(uint8_t)text[i + k]], e);
    }
    return rc;
}
