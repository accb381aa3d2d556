/* run_view.h: shows an answer while it is made: text, reasoning dimmed on a
 * terminal, or one JSON object a line. One owner thread. */
#ifndef APPLICATIONS_RUN_VIEW_H
#define APPLICATIONS_RUN_VIEW_H

#include <stdbool.h>
#include <stdio.h>

#include "applications/chat.h"
#include "applications/think.h"

struct run_view {
    FILE  *out;
    bool   json;            /* lines of JSON instead of text */
    bool   color;           /* reasoning may be dimmed */
    bool   split;           /* tell reasoning from answer; false: everything is answer */
    bool   hide_reasoning;
    struct think think;
    struct str   reasoning, answer;     /* the whole answer so far */
    struct str   now_reasoning, now_answer;
    enum { VIEW_NOTHING, VIEW_REASONING, VIEW_ANSWER } last;    /* what was shown last */
    bool   at_line_start;
    bool   failed;          /* output or memory: the answer is stopped */
};

void run_view_init(struct run_view *v, FILE *out);
void run_view_deinit(struct run_view *v);

/* The shape of chat_view's functions; ctx is the struct run_view. */
void run_view_prompt(void *ctx, const char *text, size_t len);
int  run_view_token(void *ctx, const struct generated *g);
/* The end of an answer: shows what was held back; in text mode, new_line ends
 * the last line. */
void run_view_end(struct run_view *v, bool new_line);

/* The JSON line that ends an answer. */
void run_view_done(struct run_view *v, const char *model, uint64_t seed,
                   const struct generate_result *r, const struct chat_stats *stats,
                   const char *energy);     /* JSON; NULL: nobody asked */
/* "prefill 12 tokens at 345.6/s, …", one line without a newline. */
const char *run_stats_text(char buf[256], const struct chat_stats *s);

#endif
