/* tokenize_train.c: see tokenize_train.h. Plain files are one document each, whatever bytes they
 * hold; of a .jsonl file every string value of a line is one. */
#include "applications/tokenize_train.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "applications/progress.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/bpe_train.h"
#include "models/gguf.h"
#include "models/template.h"

#define MAX_DEPTH 64

struct maker {
    const struct cli                 *c;
    const struct tokenize_train_opts *o;
    struct bpe_train                 *b;
    struct progress                   bar;
    char                             *template_text;
    size_t                            template_len;
};

/* ---- reading ---- */

static int add_strings(struct maker *m, const json_t *v, unsigned depth, struct err *e)
{
    const char *key;
    json_t *item;
    size_t i;
    int rc = 0;

    if (json_is_string(v))
        return bpe_train_add(m->b, json_string_value(v), json_string_length(v), e);
    if (depth == MAX_DEPTH)
        return 0;
    if (json_is_array(v))
        json_array_foreach(v, i, item)
            if (rc == 0)
                rc = add_strings(m, item, depth + 1, e);
    if (json_is_object(v))
        json_object_foreach((json_t *)v, key, item)
            if (rc == 0)
                rc = add_strings(m, item, depth + 1, e);
    return rc;
}

static int add_lines(struct maker *m, const char *path, const char *s, size_t n, struct err *e)
{
    uint64_t line = 1;

    for (size_t i = 0, end; i < n; i = end + 1, line++) {
        const char *nl = memchr(s + i, '\n', n - i);
        json_error_t je;
        json_t *v;
        int rc;

        end = nl ? (size_t)(nl - s) : n;
        if (strspn(s + i, " \t\r") >= end - i)
            continue;
        v = json_loadb(s + i, end - i, JSON_DECODE_ANY, &je);
        if (!v)
            return err_set(e, WATT_EFORMAT, "%s: line %" PRIu64 ": no JSON: %s", path, line, je.text);
        rc = add_strings(m, v, 0, e);
        json_decref(v);
        if (rc < 0)
            return rc;
        if (cli_interrupted())
            return err_set(e, WATT_ECANCEL, "stopped");
    }
    return 0;
}

#define SLICE ((size_t)64 << 20)

static int add_text(struct maker *m, const char *s, size_t n, struct err *e)
{
    int rc = 0;

    /* a slice ends behind a line where there is one, as a document would */
    for (size_t i = 0, end; i < n && rc == 0; i = end) {
        end = n - i > SLICE ? i + SLICE : n;
        if (end < n) {
            const char *nl = memrchr(s + i, '\n', end - i);

            if (nl)
                end = (size_t)(nl - s) + 1;
        }
        rc = bpe_train_add(m->b, s + i, end - i, e);
        if (rc == 0 && cli_interrupted())
            rc = err_set(e, WATT_ECANCEL, "stopped");
    }
    return rc;
}

static int add_file(struct maker *m, const char *path, struct err *e)
{
    const size_t n = strlen(path);
    struct file_map map = { 0 };
    char *owned = NULL;
    size_t size;
    int rc;

    /* standard input and the like can't be mapped */
    if (strcmp(path, "-") == 0 || (n > 6 && strcmp(path + n - 6, ".jsonl") == 0)) {
        rc = file_read(path, TOKENIZER_MAX_TEXT_BYTES * 4, &owned, &size, e);
        if (rc == 0)
            rc = strcmp(path, "-") == 0 ? add_text(m, owned, size, e) : add_lines(m, path, owned, size, e);
        mem_free(owned);
        return rc;
    }
    rc = file_map_open(&map, path, e);
    if (rc == 0)
        rc = add_text(m, (const char *)map.data, map.size, e);
    file_map_close(&map);
    return rc;
}

/* ---- writing ---- */

static int read_template(struct maker *m, struct err *e)
{
    struct template *t = NULL;
    int rc;

    if (!m->o->chat_template)
        return 0;
    rc = file_read(m->o->chat_template, TEMPLATE_SOURCE_MAX, &m->template_text, &m->template_len, e);
    if (rc == 0)    /* one that does not parse would make a model nobody can talk to */
        rc = template_open(&t, m->template_text, m->template_len, m->o->chat_template, e);
    template_close(t);
    return rc;
}

static struct sv text_of(const char *z)
{
    return z ? sv_cstr(z) : (struct sv){ NULL, 0 };
}

static int write_file(struct maker *m, const char *path, struct err *e)
{
    struct gguf_writer *w = NULL;
    int rc = gguf_writer_open(&w, path, e);

    if (rc < 0)
        return rc;
    rc = gguf_writer_str(w, "general.type", SV("vocabulary"), e);
    if (rc == 0)
        rc = bpe_train_write(m->b, w, text_of(m->o->bos), text_of(m->o->eos), e);
    if (rc == 0 && m->template_text)
        rc = gguf_writer_str(w, "tokenizer.chat_template", (struct sv){ m->template_text, m->template_len }, e);
    if (rc == 0)
        rc = gguf_writer_begin(w, e);
    if (rc == 0)
        return gguf_writer_commit(w, e);
    gguf_writer_abort(w);
    return rc;
}

/* ---- */

static int tick(void *ctx, uint64_t done, uint64_t total)
{
    progress_update(ctx, done, total);
    return cli_interrupted();
}

static int open_trainer(struct maker *m, struct err *e)
{
    const struct tokenize_train_opts *o = m->o;
    struct bpe_added added[2 * CLI_LIST_MAX];
    struct bpe_train_opts t = { .n_vocab = (uint32_t)o->vocab, .pre = o->pre, .added = added,
                                .min_count = (uint64_t)o->min_count, .n_threads = (unsigned)o->threads,
                                .progress = tick, .ctx = &m->bar };

    for (size_t i = 0; i < o->controls.n; i++)
        added[t.n_added++] = (struct bpe_added){ sv_cstr(o->controls.v[i]), TOKEN_CONTROL };
    for (size_t i = 0; i < o->added.n; i++)
        added[t.n_added++] = (struct bpe_added){ sv_cstr(o->added.v[i]), TOKEN_USER_DEFINED };
    return bpe_train_open(&m->b, &t, e);
}

static int make(struct maker *m, struct err *e)
{
    struct tokenizer *t = NULL;
    struct vocab_spec s;
    int rc = read_template(m, e);

    if (rc == 0)
        rc = open_trainer(m, e);
    for (size_t i = 0; i < m->o->files.n && rc == 0; i++)
        rc = add_file(m, m->o->files.v[i], e);
    if (rc < 0)
        return rc;
    progress_init(&m->bar, "merging", "tokens");
    rc = bpe_train_run(m->b, e);
    progress_finish(&m->bar);
    if (rc < 0)
        return rc;
    bpe_train_spec(m->b, &s);
    rc = tokenizer_open_spec(&t, &s, e);    /* what we write must open */
    tokenizer_close(t);
    return rc < 0 ? rc : write_file(m, m->c->args[0], e);
}

static void report(const struct maker *m, double seconds)
{
    struct vocab_spec s;
    const double mb = (double)bpe_train_bytes(m->b) / 1e6;

    bpe_train_spec(m->b, &s);
    (void)printf("%s: %" PRIu32 " tokens, %" PRIu32 " merges from %.1f MB of text, %" PRIu64
                 " different words, in %.1f s\n", m->c->args[0], s.n_tokens, s.n_merges, mb,
                 bpe_train_words(m->b), seconds);
    if (s.n_tokens < (uint64_t)m->o->vocab)
        cli_note(m->c, "the text has no pair left that occurs %" PRId64 " times or more, so the vocabulary has "
                 "fewer than %" PRId64 " tokens", m->o->min_count, m->o->vocab);
    if (bpe_train_dropped(m->b) > 0)
        cli_note(m->c, "%" PRIu64 " rare words were forgotten, for memory", bpe_train_dropped(m->b));
}

int tokenize_train(const struct cli *c, const struct tokenize_train_opts *o)
{
    struct maker m = { .c = c, .o = o };
    const uint64_t begin = clock_mono_ns();
    struct err e = { 0 };
    int rc;

    cli_catch_interrupt();
    rc = make(&m, &e);
    if (rc == 0)
        report(&m, (double)(clock_mono_ns() - begin) * 1e-9);
    bpe_train_close(m.b);
    mem_free(m.template_text);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}
