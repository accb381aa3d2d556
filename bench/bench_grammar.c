/* bench_grammar.c: what grammars cost over a vocabulary: compilation, and the mask of every token of
 * given texts.
 *
 *     bench_grammar VOCABULARY.gguf --pieces OUT
 *     bench_grammar VOCABULARY.gguf CASES.json [--masks OUT] [--runs N]
 *
 * CASES.json is a list of {"name", "schema" or "regex" or "gbnf" or "structure", "texts": [...]}. Each case is a line
 * of JSON: {"name", "compile_ms", "error" or "texts": [{"ids", "n_accepted", "mask_us", "again_us"}]},
 * times of this thread's processor. mask_us has a time for each token and for the end of the first text under a new
 * grammar; again_us for the same text again, under the same grammar. The texts are cut into tokens by
 * the vocabulary's tokenizer; where a token is refused the text ends. --masks writes the masks, in
 * the order of the times, as they are (64 tokens a word). --pieces writes the bytes of each token in
 * hexadecimal, a line each, an empty line for one that grammars never allow, "end" for one that ends. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/gguf.h"
#include "models/grammar/grammar.h"
#include "models/grammar/matcher.h"
#include "models/grammar/structural.h"
#include "models/tokenizer.h"

struct bench {
    struct tokenizer  *tokenizer;
    struct token_trie *trie;
    FILE              *masks;
    int                runs;
};

static uint64_t cpu_ns(void)
{
    struct timespec ts = { 0 };

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int compile(struct grammar **out, const json_t *c, struct err *e)
{
    const json_t *schema = json_object_get(c, "schema");
    const json_t *structure = json_object_get(c, "structure");
    const char *regex = json_string_value(json_object_get(c, "regex"));
    const char *gbnf = json_string_value(json_object_get(c, "gbnf"));

    if (schema)
        return grammar_from_schema(out, schema, NULL, e);
    if (regex)
        return grammar_from_regex(out, sv_cstr(regex), e);
    if (gbnf)
        return grammar_from_gbnf(out, sv_cstr(gbnf), e);
    if (structure)
        return grammar_from_structure(out, structure, e);
    return err_set(e, WATT_EFORMAT, "a case without schema, regex, gbnf or structure");
}

/* One text under a matcher: times into us[0..n], n the tokens that were accepted. */
static int follow(struct bench *b, struct matcher *m, const struct tokens *ids, double *us,
                  uint64_t *bits, bool write, size_t *n, struct err *e)
{
    *n = 0;
    for (size_t i = 0;; i++) {
        const uint64_t t0 = cpu_ns();
        const int rc = matcher_mask(m, bits, e);

        us[i] = (double)(cpu_ns() - t0) * 1e-3;
        if (rc < 0)
            return rc;
        if (write && b->masks)
            (void)fwrite(bits, sizeof *bits, b->trie->n_words, b->masks);
        if (i == ids->n || matcher_accept(m, ids->ids[i], e) < 0)
            return 0;
        *n = i + 1;
    }
}

static void print_times(const char *name, const double *us, size_t n)
{
    (void)printf(",\"%s\":[", name);
    for (size_t i = 0; i < n; i++)
        (void)printf("%s%.2f", i ? "," : "", us[i]);
    (void)printf("]");
}

static int one_text(struct bench *b, struct grammar *g, struct sv text, bool first, struct err *e)
{
    struct tokens ids = { 0 };
    struct grammar_masks *masks = NULL;
    struct matcher *m = NULL;
    uint64_t *bits = mem_array(b->trie->n_words + 1, sizeof *bits);
    double *us = NULL;
    size_t n;
    int rc = bits ? tokenizer_encode(b->tokenizer, NULL, text.data, text.len, 0, &ids, e) : WATT_ENOMEM;

    if (rc == 0) {
        us = mem_array(ids.n + 1, sizeof *us);
        rc = us ? grammar_masks_open(&masks, g, b->trie, e) : WATT_ENOMEM;
    }
    if (rc == 0)
        rc = matcher_open(&m, masks, e);
    if (rc == 0)
        rc = follow(b, m, &ids, us, bits, true, &n, e);
    if (rc == 0) {
        (void)printf("%s{\"ids\":[", first ? "" : ",");
        for (size_t i = 0; i < ids.n; i++)
            (void)printf("%s%" PRId32, i ? "," : "", ids.ids[i]);
        (void)printf("],\"n_accepted\":%zu,\"complete\":%s", n,
                     n == ids.n && matcher_complete(m) ? "true" : "false");
        print_times("mask_us", us, n + 1);
        matcher_reset(m);
        rc = follow(b, m, &ids, us, bits, false, &n, e);
    }
    if (rc == 0) {
        print_times("again_us", us, n + 1);
        (void)printf("}");
    }
    matcher_close(m);
    grammar_masks_close(masks);
    mem_free(us);
    mem_free(bits);
    tokens_deinit(&ids);
    return rc;
}

static int one_case(struct bench *b, const json_t *c, struct err *e)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    const json_t *texts = json_object_get(c, "texts"), *text;
    struct grammar *g = NULL;
    double best = 0;
    size_t i;
    int rc = 0;

    for (int k = 0; k < b->runs && rc == 0; k++) {
        const uint64_t t0 = cpu_ns();
        double ms;

        grammar_close(g);
        g = NULL;
        rc = compile(&g, c, e);
        ms = (double)(cpu_ns() - t0) * 1e-6;
        best = k == 0 || ms < best ? ms : best;
    }
    (void)printf("{\"name\":");
    json_print_str(stdout, sv_cstr(name ? name : ""));
    (void)printf(",\"compile_ms\":%.3f", best);
    if (rc < 0) {
        (void)printf(",\"error\":");
        json_print_str(stdout, sv_cstr(e->msg));
        (void)printf("}\n");
        return 0;
    }
    (void)printf(",\"texts\":[");
    json_array_foreach(texts, i, text) {
        rc = one_text(b, g, (struct sv){ json_string_value(text), json_string_length(text) }, i == 0,
                      e);
        if (rc < 0)
            break;
    }
    (void)printf("]}\n");
    grammar_close(g);
    return rc;
}

static int write_pieces(const struct bench *b, const char *path, struct err *e)
{
    FILE *f = fopen(path, "w");

    if (!f)
        return err_set(e, WATT_EIO, "%s: can't be written", path);
    for (uint32_t i = 0; i < b->trie->n_vocab; i++) {
        const struct sv s = b->trie->pieces[i];

        if (b->trie->eog[i / 64] >> i % 64 & 1)
            (void)fputs("end", f);
        for (size_t k = 0; k < s.len; k++)
            (void)fprintf(f, "%02x", (unsigned char)s.data[k]);
        (void)fputc('\n', f);
    }
    return fclose(f) == 0 ? 0 : err_set(e, WATT_EIO, "%s: can't be written", path);
}

static int cases(struct bench *b, const char *path, struct err *e)
{
    struct file_map map;
    json_t *list, *c;
    size_t i;
    int rc = file_map_open(&map, path, e);

    if (rc < 0)
        return rc;
    rc = json_parse(&list, path, map.data, map.size, NULL, e);
    if (rc == 0) {
        json_array_foreach(list, i, c) {
            rc = one_case(b, c, e);
            if (rc < 0)
                break;
        }
        json_close(list);
    }
    file_map_close(&map);
    return rc;
}

int main(int argc, char **argv)
{
    struct bench b = { .runs = 5 };
    struct gguf *g = NULL;
    const char *pieces = NULL, *masks = NULL, *path = NULL;
    struct err e = { 0 };
    int rc;

    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--pieces") == 0 && i + 1 < argc)
            pieces = argv[++i];
        else if (strcmp(argv[i], "--masks") == 0 && i + 1 < argc)
            masks = argv[++i];
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            b.runs = (int)strtol(argv[++i], NULL, 10);
        else
            path = argv[i];
    }
    if (argc < 3 || !(pieces || path) || b.runs < 1) {
        (void)fprintf(stderr, "usage: bench_grammar VOCABULARY.gguf --pieces OUT\n"
                              "       bench_grammar VOCABULARY.gguf CASES.json [--masks OUT] [--runs N]\n");
        return 2;
    }
    rc = gguf_open(&g, argv[1], &e);
    if (rc == 0)
        rc = tokenizer_open(&b.tokenizer, g, &e);
    if (rc == 0)
        rc = token_trie_open(&b.trie, b.tokenizer, NULL, 0, &e);
    if (rc == 0 && masks && !(b.masks = fopen(masks, "wb")))
        rc = err_set(&e, WATT_EIO, "%s: can't be written", masks);
    if (rc == 0)
        rc = pieces ? write_pieces(&b, pieces, &e) : cases(&b, path, &e);
    if (b.masks && fclose(b.masks) != 0 && rc == 0)
        rc = err_set(&e, WATT_EIO, "%s: can't be written", masks);
    if (rc < 0)
        (void)fprintf(stderr, "bench_grammar: %s\n", e.msg);
    token_trie_close(b.trie);
    tokenizer_close(b.tokenizer);
    gguf_close(g);
    return rc < 0;
}
