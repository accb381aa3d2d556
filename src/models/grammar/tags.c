/* tags.c: free text in which some openings are reserved for tags with a grammar inside: tool
 * calls, "structural tags". */
#include <string.h>

#include "models/grammar/free_text.h"
#include "models/grammar/grammar.h"
#include "models/grammar/schema.h"

#define MAX_TRIGGERS 64u
#define MAX_TAGS     1024u

/* The tag after its trigger: what is left of begin, the content, the end. */
static int write_tag(struct cfg *g, uint32_t from, const struct grammar_tag *tag, size_t skip,
                     const struct schema_opts *opts, uint32_t to, struct err *e)
{
    const uint32_t content = nfa_node(&g->a), after = nfa_node(&g->a);
    struct dfa *d;
    uint32_t rule;
    int rc;

    nfa_bytes(&g->a, from, (struct sv){ tag->begin.data + skip, tag->begin.len - skip }, content);
    if (tag->schema) {
        rc = schema_rule(g, tag->schema, opts, &rule, e);
        if (rc < 0)
            return rc;
        cfg_call(g, content, rule, after);
        nfa_bytes(&g->a, after, tag->end, to);
        return 0;
    }
    if (tag->end.len == 0)
        return err_set(e, WATT_EINVAL, "tags: free text needs an end");
    rc = free_up_to(&d, tag->end, &tag->end, 1, e);
    if (rc < 0)
        return rc;
    free_write(g, content, d, to);
    dfa_close(d);
    return 0;
}

static int check_tags(const struct grammar_tags *t, struct err *e)
{
    if (t->n_triggers == 0 || t->n_triggers > MAX_TRIGGERS)
        return err_set(e, WATT_EINVAL, "tags: 1 to %u triggers are needed", MAX_TRIGGERS);
    if (t->n_tags == 0 || t->n_tags > MAX_TAGS)
        return err_set(e, WATT_EINVAL, "tags: 1 to %u tags are needed", MAX_TAGS);
    for (size_t i = 0; i < t->n_triggers; i++)
        if (t->triggers[i].len == 0 || t->triggers[i].len > 256)
            return err_set(e, WATT_EINVAL, "tags: trigger %zu must have 1 to 256 bytes", i);
    for (size_t k = 0; k < t->n_tags; k++) {
        bool found = false;

        for (size_t i = 0; i < t->n_triggers; i++)
            found |= sv_starts(t->tags[k].begin, t->triggers[i]);
        if (!found)
            return err_set(e, WATT_EINVAL, "tags: begin '%.*s' starts with no trigger",
                           t->tags[k].begin.len > 80 ? 80 : (int)t->tags[k].begin.len,
                           t->tags[k].begin.data);
    }
    return 0;
}

int grammar_from_tags(struct grammar **out, const struct grammar_tags *t,
                      const struct schema_opts *opts, struct err *e)
{
    struct dfa *d;
    struct cfg g;
    uint32_t rule, start, after, again, end;
    int rc = check_tags(t, e);

    if (rc < 0)
        return rc;
    cfg_init(&g);
    rule = cfg_rule(&g);
    start = nfa_node(&g.a);     /* before the first tag */
    after = nfa_node(&g.a);     /* behind a tag */
    end = nfa_node(&g.a);
    again = t->stop_after_first ? end : after;
    for (size_t i = 0; i < t->n_triggers && rc == 0; i++) {
        const uint32_t there = nfa_node(&g.a);

        rc = free_up_to(&d, t->triggers[i], t->triggers, t->n_triggers, e);
        if (rc < 0)
            break;
        free_write(&g, start, d, there);
        if (!t->stop_after_first)
            free_write(&g, after, d, there);
        dfa_close(d);
        for (size_t k = 0; k < t->n_tags && rc == 0; k++)
            if (sv_starts(t->tags[k].begin, t->triggers[i]))
                rc = write_tag(&g, there, &t->tags[k], t->triggers[i].len, opts, again, e);
    }
    if (rc == 0)
        rc = free_without(&d, t->triggers, t->n_triggers, e);
    if (rc == 0) {
        if (!t->at_least_one)
            free_write(&g, start, d, end);
        if (!t->stop_after_first)
            free_write(&g, after, d, end);
        dfa_close(d);
        cfg_define(&g, rule, start, end);
        rc = cfg_compile(out, &g, rule, "tags", e);
    }
    cfg_deinit(&g);
    return rc;
}
