/* eval_task.h: questions with checkable answers, read from JSONL, and their judge.
 *
 * A line is an object. The question is "messages" (with "tools", perhaps), or "question" or
 * "prompt", a text. What makes an answer right decides the kind:
 *
 *   "number": "42"                  the number behind the last "####", else the last number at all;
 *   "answer": "… #### 42"           the same, as GSM8K has it
 *   "contains": ["a", "b"]          every text is in the answer, whatever case; with
 *   "cites": [1, 3]                 [1] and [3] are cited and no other number is
 *   "abstains": true                "abstention" is in the answer
 *   "call": {"name", "arguments"}   exactly this tool is called
 *   "choices": ["a", …], "answer": 0 (or "A")    the likeliest text is this one
 *
 * "task" names the group that an item is counted in. "abstention": "Not in the sources" in an item
 * that has an answer counts false abstentions. Nothing in a file is trusted: a bad line is an error
 * with its number. */
#ifndef APPLICATIONS_EVAL_TASK_H
#define APPLICATIONS_EVAL_TASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* Named maxima. */
#define EVAL_MAX_ITEMS   1000000u
#define EVAL_MAX_CHOICES 64u
#define EVAL_MAX_LINE    ((size_t)16 << 20)

enum eval_kind { EVAL_NUMBER, EVAL_CONTAINS, EVAL_ABSTAINS, EVAL_CALL, EVAL_CHOICE };

struct eval_item {
    json_t        *line;        /* the object; all below points into it, but for */
    json_t        *messages;    /* which is of its own; NULL: prompt is raw text */
    const json_t  *tools;       /* NULL: none */
    const char    *task, *prompt;
    enum eval_kind kind;
    char           number[64];  /* as eval_number writes it */
    const json_t  *contains, *cites, *call, *choices;
    uint32_t       right;       /* of choices */
    const char    *abstention;  /* NULL: none is known */
};

struct eval_items {
    struct eval_item *v;
    size_t            n, cap;
};

/* Appends the items of a file's text; path for messages. limit: of items in all, 0: none. */
int  eval_items_read(struct eval_items *items, const char *path, const char *text, size_t len,
                     size_t limit, struct err *e) MUST_CHECK;
/* One made by the program; line's reference is taken over, also on failure. */
int  eval_items_add(struct eval_items *items, const char *path, size_t number, json_t *line,
                    struct err *e) MUST_CHECK;
void eval_items_deinit(struct eval_items *items);

/* What came back. */
struct eval_answer {
    struct sv text;
    json_t   *calls;    /* tool calls that the server parsed: [{"name", "arguments": object}]; NULL:
                         * they are looked for in the text, as <tool_call>{…}</tool_call> */
};

struct eval_verdict {
    bool right;
    bool formed;        /* EVAL_CALL: one well-formed call; EVAL_NUMBER: a number stands behind "####" */
    bool abstained;
    char vote[64];      /* what a majority is taken over: the number, else a hash of the text */
};

void eval_judge(const struct eval_item *item, const struct eval_answer *a, struct eval_verdict *v);

/* A number as it is compared: no thousands separators, no zeros in front or behind; "" for none.
 * Reads behind the last "####", else the last number of the text. formed may be NULL. */
void eval_number(struct sv text, char out[64], bool *formed);

/* The calls in a text, in the form eval_answer has them; a new list. NULL: memory is short. */
json_t *eval_calls_in(struct sv text);

#endif
