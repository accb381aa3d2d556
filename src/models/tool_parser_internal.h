/* tool_parser_internal.h: the parser's state, shared by tool_parser.c (text, heads of calls, what is
 * between them) and tool_parser_args.c (arguments in every notation). A state function takes from the
 * front of what is held and says whether another one may have more to do. */
#ifndef MODELS_TOOL_PARSER_INTERNAL_H
#define MODELS_TOOL_PARSER_INTERNAL_H

#include "models/json_scan.h"
#include "models/tool_args.h"
#include "models/tool_parser.h"

#define HOLD_BLANKS   256u      /* white space that may stand before a call */
/* Bounds of what is read before its end is seen, its end included: they hold however much comes at once, so
 * that calls do not depend on how an answer is cut. */
#define HEADER_MAX    1024u     /* bytes of a channel's header */
#define HOLE_MAX      (2u * TOOL_NAME_MAX_BYTES)    /* of a name, an id or a key */

enum state {
    AT_START,           /* bare calls: only here */
    TEXT, TEXT_ONLY,
    CALL,               /* a call must begin */
    HEAD, ENVELOPE, JSON_ARGS, PARAMS, KEY, VALUE, CODE,
    BROKEN,             /* arguments that are none */
    CLOSE, BETWEEN,
    HEADER, BODY        /* of channels */
};

/* What an envelope's current value is. */
enum member { M_OTHER, M_NAME, M_ARGS, M_ID, M_TEXT_ARGS };

struct tool_parser {
    const struct tool_format *f;
    json_t           *tools;
    const struct tool_sink *sink;
    void             *ctx;
    struct str        held;
    size_t            pos;          /* before it: kept only while a call has no name */
    size_t            seen;         /* of held: looked at in vain */
    enum state        state;
    bool              final, failed;
    bool              content;      /* some was told since the last call, or no call yet */
    bool              blank_start;  /* drop white space: behind a call */
    uint32_t          n_calls;
    bool              begun, any_param;
    struct str        name, id, key, out, value;
    size_t            piece;
    /* JSON */
    struct json_scan  scan;
    uint32_t          level;        /* depth of the members of an envelope */
    enum member       member;
    bool              has_args, html_string;
    /* a tagged value */
    const json_t     *parameters;
    enum tool_type    type;
    bool              value_begun;
    /* code */
    uint32_t          depth;
    bool              in_quote;
    char              quote;
    bool              reasoning;    /* the channel is */
};

/* ---- tool_parser.c ---- */
struct sv   parser_ahead(const struct tool_parser *p);  /* what is held and not taken */
void        parser_settle(struct tool_parser *p);       /* what was taken is done with */
void        parser_put_args(struct tool_parser *p, struct sv s);
void        parser_put_args_z(struct tool_parser *p, const char *z);
void        parser_put_out(struct tool_parser *p);      /* p->out as arguments */
void        parser_begin_call(struct tool_parser *p);
void        parser_end_call(struct tool_parser *p, bool complete);
void        parser_go(struct tool_parser *p, enum state s);
bool        parser_no_call(struct tool_parser *p);      /* what was taken is content */
const char *parser_call_opening(const struct tool_format *f);
struct sv   parser_trimmed(struct sv s);
bool        parser_good_name(struct sv s);

/* ---- tool_parser_args.c ---- */
bool parser_in_json_args(struct tool_parser *p);
bool parser_in_broken(struct tool_parser *p);
bool parser_in_envelope(struct tool_parser *p);
bool parser_in_params(struct tool_parser *p);
bool parser_in_key(struct tool_parser *p);
bool parser_in_value(struct tool_parser *p);
bool parser_in_code(struct tool_parser *p);

#endif
