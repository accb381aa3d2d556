/* tool_probe.h: short conversations with known parts, rendered by a chat template, to see how it
 * spells them. One owner thread. */
#ifndef MODELS_TOOL_PROBE_H
#define MODELS_TOOL_PROBE_H

#include "models/template.h"

/* What stands in the conversations. None is part of another. */
#define PROBE_USER    "Quzwex"
#define PROBE_CONTENT "Vortnim"
#define PROBE_THOUGHT "Brelqad"
#define PROBE_NAME1   "zortab"
#define PROBE_NAME2   "wexlim"
#define PROBE_KEY1    "akkip"
#define PROBE_VALUE1  "Plimvo"          /* a string */
#define PROBE_KEY2    "bnoru"
#define PROBE_VALUE2  7351              /* a number */
#define PROBE_VALUE2_TEXT "7351"

enum probe_ids { PROBE_IDS_LONG, PROBE_IDS_SHORT, PROBE_IDS_NAMED, PROBE_N_IDS };
enum probe_thinking { PROBE_THINK_UNSAID, PROBE_THINK_ON, PROBE_THINK_OFF };

struct probe {
    const struct template *t;
    struct sv      bos, eos;
    enum probe_ids ids;
    bool           string_arguments, null_content;
};

struct probe_turn {
    unsigned    n_calls;                /* 0, 1, 2 */
    const char *content;                /* NULL: "" (or null, as the probe says) */
    const char *thought_key;            /* the reasoning goes under this key; NULL: none */
    bool        prompt;                 /* no turn: what an answer begins after */
    bool        no_tools;
    enum probe_thinking thinking;
};

/* The id of call i (0, 1) of a probe. */
const char *probe_id(const struct probe *p, unsigned i);
/* What the template writes behind the user's text, into out (reset first); false when the template
 * fails or does not show the user's text. */
bool probe_render(const struct probe *p, const struct probe_turn *turn, struct str *out);

#endif
