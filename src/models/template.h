/* template.h: chat templates, the Jinja programs that turn a conversation into
 * a prompt.
 *
 * The dialect is Python's Jinja2 as model publishers run it: the immutable
 * sandbox, trim_blocks, lstrip_blocks, the loop controls break and continue,
 * tojson without ASCII or HTML escapes (options indent, separators, sort_keys,
 * ensure_ascii), raise_exception(text), strftime_now(format), the generation
 * tag (its body passes through), default Undefined, no autoescape. What differs
 * is listed in docs/template.md: integers are 64-bit and overflow is an error,
 * generators are evaluated at once, include, import and extends are refused.
 *
 * Template text and variables are hostile: every render is bounded (struct
 * template_limits) and stops with an error. Messages name the template, the
 * line and what was wrong. Codes:
 *   WATT_EFORMAT  the template's text is malformed
 *   WATT_ENOTSUP  it uses something this interpreter refuses (include, …)
 *   WATT_EINVAL   it failed on these variables: an undefined value was used, a
 *                 type did not fit, or it called raise_exception()
 *   WATT_ELIMIT   output, memory, depth, steps or loop iterations
 *   WATT_ETIME    the time limit
 *   WATT_ENOMEM
 *
 * A template is immutable once open: any number of threads may render it at the
 * same time. A render owns its memory and gives it back before it returns; with
 * the default depth it needs less than 512 KiB of stack. */
#ifndef MODELS_TEMPLATE_H
#define MODELS_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct template;

/* The longest source that template_open takes. */
#define TEMPLATE_SOURCE_MAX ((size_t)1 << 20)

/* Bounds of one render; a field of 0 means the default in the comment. */
struct template_limits {
    size_t   output_bytes;   /* 16 MiB: the rendered text */
    size_t   memory_bytes;   /* 64 MiB: all values and intermediate strings */
    uint64_t steps;          /* 50 million: expressions evaluated, work of builtins included */
    uint64_t iterations;     /* 4 million: turns of all loops together */
    uint32_t depth;          /* 1500: nesting of evaluation (macros, recursive loops, values) */
    uint32_t time_ms;        /* 2000 */
};

struct template_input {
    /* A JSON object: messages, tools, add_generation_prompt, enable_thinking and
     * whatever else the template knows. NULL is an empty one. Read only, not
     * kept; at most 100 levels deep. */
    const json_t *vars;
    /* The tokenizer's bos_token and eos_token, where `vars` has none; with data
     * NULL the variable stays undefined. */
    struct sv bos_token, eos_token;
    /* What strftime_now() formats: seconds since 1970 and the local time's
     * offset east of UTC. has_now false: the system's clock and time zone. */
    bool    has_now;
    int64_t now_s;
    int32_t utc_offset_s;
    struct template_limits limits;
};

/* Parses source[0..n), which need not outlive the call. name (a file or model
 * name, copied, cut at 200 bytes) stands in front of messages. On success *out
 * is the caller's until template_close(); on failure it is untouched. */
int  template_open(struct template **out, const char *source, size_t n, const char *name,
                   struct err *e) MUST_CHECK;
void template_close(struct template *t);   /* NULL is fine; no render may be running */

/* Renders and appends the text to out; on failure out is as before. Thread-safe
 * for one template and different outs. Allocates (through base/mem). */
int  template_render(const struct template *t, const struct template_input *in,
                     struct str *out, struct err *e) MUST_CHECK;

/* Does the source mention this variable anywhere (tools, enable_thinking, …)?
 * What a server asks to know which request fields the template can honour. */
bool template_mentions(const struct template *t, const char *variable);

/* The source to use for a model that carries no template, when a chat is asked
 * for all the same: ChatML (<|im_start|>role … <|im_end|>), which takes system,
 * user, assistant and tool messages with text or lists of text parts. Static,
 * NUL-terminated. */
const char *template_default(void);

#endif
