/* eval_needle.c: see eval_needle.h. */
#include "applications/eval_needle.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"

#define MAX_HAY ((size_t)256 << 20)

static const char *const places[] = { "Lisbon", "Oslo", "Kyoto", "Quito", "Cairo", "Perth", "Riga", "Dakar",
                                      "Hanoi", "Turin", "Malmo", "Tunis" };

/* The bytes of hay that are about so many tokens: what the first megabyte needs per token says. */
static int bytes_for(const struct tokenizer *tok, struct sv hay, uint32_t length, size_t *out, struct err *e)
{
    const size_t n = hay.len < (size_t)1 << 20 ? hay.len : (size_t)1 << 20;
    struct tokens ids = { 0 };
    double each = 4;
    int rc = 0;

    if (tok) {
        rc = tokenizer_encode(tok, NULL, hay.data, n, 0, &ids, e);
        if (rc == 0 && ids.n > 0)
            each = (double)n / (double)ids.n;
        tokens_deinit(&ids);
    }
    if (rc < 0)
        return rc;
    if (each * length > (double)MAX_HAY)
        return err_set(e, WATT_ELIMIT, "a haystack of %" PRIu32 " tokens is more than %zu bytes", length, MAX_HAY);
    *out = (size_t)(each * length);
    return 0;
}

/* The end of the sentence or word that goes on at `at`. */
static size_t boundary(struct sv t, size_t at)
{
    for (size_t i = at; i < t.len && i < at + 400; i++)
        if (i > 0 && isspace((unsigned char)t.data[i]) && strchr(".!?", t.data[i - 1]))
            return i;
    while (at < t.len && !isspace((unsigned char)t.data[at]))
        at++;
    return at;
}

/* n bytes of hay from an offset on, round and round, invalid parts replaced. */
static void put_hay(struct str *out, struct sv hay, size_t from, size_t n)
{
    for (size_t i = 0; i < n;) {
        const size_t at = (from + i) % hay.len;
        uint32_t cp;
        bool ok;
        const size_t k = utf8_decode(hay.data + at, hay.len - at, &cp, &ok);

        if (ok && cp != 0)
            str_append(out, hay.data + at, k);
        i += k;
    }
}

static json_t *make_item(struct sv text, size_t cut, uint32_t length, unsigned depth, const char *place, uint32_t number)
{
    char task[80], needle[120], question[120], want[16];
    struct str s;
    json_t *line = NULL;

    (void)snprintf(task, sizeof task, "needle in %" PRIu32 " tokens at %u %%", length, depth);
    (void)snprintf(needle, sizeof needle, "%sThe secret number of %s is %" PRIu32 ".%s", cut ? " " : "", place, number,
                   cut < text.len && !isspace((unsigned char)text.data[cut]) ? " " : "");
    (void)snprintf(question, sizeof question, "\n\nWhat is the secret number of %s?", place);
    (void)snprintf(want, sizeof want, "%" PRIu32, number);
    str_init(&s, 0);
    str_append(&s, text.data, cut);
    str_puts(&s, needle);
    str_append(&s, text.data + cut, text.len - cut);
    str_puts(&s, question);
    if (str_ok(&s))
        line = json_pack("{s:s, s:[{s:s, s:s}], s:[s]}", "task", task, "messages", "role", "user", "content",
                         str_cstr(&s), "contains", want);
    str_deinit(&s);
    return line;
}

int eval_needle_add(struct eval_items *items, const struct tokenizer *tok, struct sv hay, uint32_t length,
                    uint64_t seed, struct err *e)
{
    size_t n;
    struct rng r;
    int rc;

    if (hay.len == 0)
        return err_set(e, WATT_EINVAL, "a haystack needs text");
    rc = bytes_for(tok, hay, length, &n, e);
    rng_init(&r, seed ^ length);
    for (unsigned d = 0; d < EVAL_NEEDLE_DEPTHS && rc == 0; d++)
        for (unsigned i = 0; i < EVAL_NEEDLES_EACH && rc == 0; i++) {
            const char *place = places[rng_below(&r, sizeof places / sizeof *places)];
            const uint32_t number = 10000 + rng_below(&r, 90000);
            const size_t from = (size_t)(rng_double(&r) * (double)hay.len);
            const unsigned depth = d * 100 / (EVAL_NEEDLE_DEPTHS - 1);
            struct str text;
            json_t *line;
            size_t cut;

            str_init(&text, 0);
            put_hay(&text, hay, boundary(hay, from) % hay.len, n);
            cut = d == 0 ? 0 : d + 1 == EVAL_NEEDLE_DEPTHS ? text.len
                                                          : boundary(sv_of(&text), text.len * d / (EVAL_NEEDLE_DEPTHS - 1));
            line = str_ok(&text) ? make_item(sv_of(&text), cut, length, depth, place, number) : NULL;
            rc = line ? eval_items_add(items, "needle", items->n + 1, line, e)
                      : err_set(e, WATT_ENOMEM, "out of memory for haystacks");
            str_deinit(&text);
        }
    return rc;
}
