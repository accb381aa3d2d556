/* tool_format.h: how a model spells tool calls and reasoning, learned from what its chat template
 * does: conversations with known names, arguments, ids and reasoning are rendered, and what stands
 * between the known parts is the format. No model is known by name.
 *
 * The text of calls is
 *
 *     section_open  call (sep call)*  section_close
 *
 * where every part may be empty, and a call is one of
 *   TOOL_ENVELOPE  call_open JSON call_close: an object with the name under name_key and the
 *                  arguments under args_key (within wrap_key, where there is one), or with the name
 *                  as its only key; `array`: the calls are the items of one list, without sep
 *   TOOL_NAMED     the pieces of head (a literal, then the name, perhaps an id or a counter, each
 *                  between literals), the arguments, call_close
 *   TOOL_CHANNELS  messages with headers: channel_open, words, message_open, body; a header with
 *                  the literal of head in it is a call (gpt-oss)
 * Arguments are JSON, or tagged (param_open KEY key_end VALUE value_end …), or written as in a
 * call of Python ("(a=1, b='x')"), or as an object with bare keys and strings between `quote`.
 *
 * White space in the literals matches any white space, also none, when texts are read.
 *
 * A format is immutable; any number of threads may use it at once. */
#ifndef MODELS_TOOL_FORMAT_H
#define MODELS_TOOL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/template.h"
#include "models/tokenizer.h"

enum tool_shape { TOOL_NONE, TOOL_ENVELOPE, TOOL_NAMED, TOOL_CHANNELS };
enum tool_args  { TOOL_ARGS_JSON, TOOL_ARGS_TAGGED, TOOL_ARGS_PYTHON, TOOL_ARGS_LOOSE };
enum tool_hole  { TOOL_LITERAL, TOOL_NAME, TOOL_ID, TOOL_COUNT };

#define TOOL_MAX_PIECES 12u

struct tool_piece {
    enum tool_hole kind;
    char          *text;        /* of a literal */
};

/* Strings are never NULL: "" where there is none. */
struct tool_format {
    enum tool_shape shape;
    enum tool_args  args;
    bool   parallel;            /* several calls in one answer */
    bool   array;
    bool   name_is_key;
    bool   html_quotes;         /* the template spells quotes &#34; */
    bool   string_arguments;    /* the template wants arguments as text */
    bool   null_content;        /* calls are shown only beside a content of null */
    bool   short_ids;           /* the template takes ids of nine letters and digits only */
    bool   ids_from_head;       /* the id is what stands between head's literal and the arguments:
                                 * functions.NAME:0 */
    int    first_count;         /* TOOL_COUNT of the first call */
    char  *section_open, *section_close, *call_close, *sep;
    char  *call_open;           /* TOOL_ENVELOPE */
    char  *name_key, *args_key, *id_key, *wrap_key;
    bool   id_first;            /* id_key stands before the name */
    bool   id_counts;           /* the id is the number of the call, as text */
    struct tool_piece head[TOOL_MAX_PIECES];
    size_t n_head;
    char  *param_open, *key_end, *value_end;    /* TOOL_ARGS_TAGGED */
    char  *key_end_other;       /* before values that are no strings, where it differs */
    char  *quote;               /* TOOL_ARGS_LOOSE */
    char  *channel_open, *message_open, *channel_end, *channel_next;    /* TOOL_CHANNELS */
    char  *think_channel, *text_channel;
    /* Reasoning; empty: the template shows none. think_open may be empty where the prompt opens
     * it. */
    char  *think_open, *think_close;
    bool   think_switch;        /* enable_thinking or thinking changes the prompt */
    char   think_variable[24];  /* which of them, "" */
    /* Control tokens of the vocabulary that are part of the spelling, by tool_format_bind: those of
     * reasoning first. */
    int32_t *markers;
    size_t   n_markers, n_think_markers;
};

/* Learns the format of a template. What it does not show is TOOL_NONE and empty strings: only a
 * want of memory is an error (WATT_ENOMEM). `source`, the template's text, may be NULL: it is
 * looked at for the spelling of calls that the template leaves to whoever writes them down.
 * bos and eos as in template_input. Renders about twenty short conversations, each bounded to
 * 200 ms. */
int  tool_format_open(struct tool_format **out, const struct template *t, struct sv bos,
                      struct sv eos, struct err *e) MUST_CHECK;
/* What depends on the vocabulary: the control tokens that are markers of the format, and the end
 * of a call that is the end of the answer. Also knows the spelling of a model whose template
 * leaves calls to the writer, where the vocabulary has the tokens for it. Before f is shared. */
int  tool_format_bind(struct tool_format *f, const struct tokenizer *t, struct err *e) MUST_CHECK;
void tool_format_close(struct tool_format *f);      /* NULL is fine */

/* The text that an answer with calls begins them with; empty (bare JSON): calls stand at the very
 * beginning. */
void tool_format_opening(const struct tool_format *f, struct str *out);
/* One line for people: "named <tool_call> NAME, tagged; reasoning <think>…</think>". */
void tool_format_describe(const struct tool_format *f, struct str *out);

#endif
