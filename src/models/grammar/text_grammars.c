/* text_grammars.c: grammars of plain texts: regular expressions and lists of choices. */
#include <string.h>

#include "models/grammar/cfg.h"
#include "models/grammar/grammar.h"
#include "models/grammar/regex.h"

static int from_dfa(struct grammar **out, const struct dfa *d, const char *what, struct err *e)
{
    struct cfg g;
    uint32_t rule, start, end;
    int rc;

    cfg_init(&g);
    rule = cfg_rule(&g);
    start = nfa_node(&g.a);
    end = nfa_node(&g.a);
    cfg_text(&g, start, d, end);
    cfg_define(&g, rule, start, end);
    rc = cfg_compile(out, &g, rule, what, e);
    cfg_deinit(&g);
    return rc;
}

int grammar_from_regex(struct grammar **out, struct sv pattern, struct err *e)
{
    struct dfa *d;
    int rc = regex_compile(&d, pattern, REGEX_WHOLE, "regex", e);

    if (rc < 0)
        return rc;
    rc = from_dfa(out, d, "regex", e);
    dfa_close(d);
    return rc;
}

int grammar_from_choices(struct grammar **out, const struct sv *choices, size_t n, struct err *e)
{
    struct cfg g;
    uint32_t rule, start, end;
    int rc;

    if (n == 0)
        return err_set(e, WATT_EINVAL, "choice: no choices");
    if (n > GRAMMAR_MAX_CHOICES)
        return err_set(e, WATT_ELIMIT, "choice: %zu choices, at most %u", n, GRAMMAR_MAX_CHOICES);
    cfg_init(&g);
    rule = cfg_rule(&g);
    start = nfa_node(&g.a);
    end = nfa_node(&g.a);
    for (size_t i = 0; i < n; i++)
        nfa_bytes(&g.a, start, choices[i], end);
    cfg_define(&g, rule, start, end);
    rc = cfg_compile(out, &g, rule, "choice", e);
    cfg_deinit(&g);
    return rc;
}
