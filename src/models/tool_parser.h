/* tool_parser.h: takes tool calls out of an answer while it is being written.
 *
 * Text goes in as it comes; content, calls and pieces of arguments come out through a sink. What a
 * client can rely on:
 * - a call is told once (begin), then its arguments as pieces of one JSON object, then its end;
 *   calls are numbered from 0 in the order in which they were written;
 * - text that begins like a call and turns out to be none before its name is known is content, byte
 *   for byte; where calls have no marker of their own (a bare JSON object) only a declared tool's
 *   name at the very beginning of the answer makes a call;
 * - arguments that another notation spells (tags, Python, bare keys) come as JSON, typed by the
 *   tool's schema: a declared string stays a string, everything else is read as JSON or Python and
 *   is a string when it is neither;
 * - a call that the answer's end cuts off is told as cut (end with complete false); the pieces of
 *   its arguments are then the beginning of a JSON object. Arguments that are not JSON where JSON
 *   was to come are told as they are up to the end of the call, and the call as not complete;
 * - what stands between and behind calls, but for white space, is content.
 *
 * Whatever the text, time is linear but for a bounded factor, and memory is bounded by that of the
 * text. One owner thread. */
#ifndef MODELS_TOOL_PARSER_H
#define MODELS_TOOL_PARSER_H

#include <jansson.h>

#include "models/tool_format.h"

#define TOOL_NAME_MAX_BYTES 256u
#define TOOL_MAX_CALLS      1024u       /* of one answer; what comes then is content */

struct tool_sink {
    void (*content)(void *ctx, struct sv text);
    void (*reasoning)(void *ctx, struct sv text);       /* only of TOOL_CHANNELS */
    /* id: the model's own, empty when it wrote none. Valid during the call. */
    void (*begin)(void *ctx, uint32_t call, struct sv name, struct sv id);
    void (*arguments)(void *ctx, uint32_t call, struct sv json);
    void (*end)(void *ctx, uint32_t call, bool complete);
};

struct tool_parser;

/* f is borrowed. tools: a list as OpenAI's API has it, a reference is taken; NULL: none is declared.
 * WATT_ENOMEM. */
int  tool_parser_open(struct tool_parser **out, const struct tool_format *f, const json_t *tools,
                      const struct tool_sink *sink, void *ctx, struct err *e) MUST_CHECK;
void tool_parser_close(struct tool_parser *p);          /* NULL is fine */
void tool_parser_push(struct tool_parser *p, struct sv text);
/* The end of the answer: what was held back comes out. */
void tool_parser_finish(struct tool_parser *p);
/* False when memory ran short: something is missing. */
bool tool_parser_ok(const struct tool_parser *p);

#endif
