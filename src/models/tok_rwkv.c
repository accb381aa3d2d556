/* tok_rwkv.c: RWKV's "World" vocabulary: the longest token from the left, over
 * bytes. */
#include "base/mem.h"
#include "models/tok_impl.h"

int rwkv_open(struct tokenizer *t, struct err *e)
{
    uint32_t *ids = mem_array(t->n_vocab, sizeof *ids);
    uint32_t n = 0;
    int rc;

    if (!ids)
        return tok_nomem(e);
    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (tok_matchable(t, id) || t->kinds[id] == TOKEN_BYTE)
            ids[n++] = id;
    rc = trie_init(&t->trie, &t->pieces, ids, n, e);
    mem_free(ids);
    return rc;
}

int rwkv_encode(const struct tokenizer *t, const char *text, size_t len, struct tokens *out,
                struct err *e)
{
    int rc = 0;

    for (size_t i = 0, n = 1; i < len && rc == 0; i += n) {
        const uint32_t id = trie_longest(&t->trie, text + i, len - i, &n);

        if (id != NO_TOKEN) {
            rc = tok_emit(out, (int32_t)id, e);
        } else {
            n = 1;
            if (t->roles[TOKEN_UNK] >= 0)
                rc = tok_emit(out, t->roles[TOKEN_UNK], e);
        }
    }
    return rc;
}
