/* tool_args.h: values of arguments in other notations than JSON, into JSON. */
#ifndef MODELS_TOOL_ARGS_H
#define MODELS_TOOL_ARGS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/str.h"

#define TOOL_ARGS_MAX_DEPTH 64u

/* The parameters of a declared tool ({"type":"object", …}), NULL when there is none. */
const json_t *tool_parameters(const json_t *tools, struct sv name);
bool          tool_declared(const json_t *tools, struct sv name);

/* What a local reference of a schema, "#/$defs/x", points at; NULL: nothing here. */
const json_t *tool_schema_at(const json_t *root, const char *ref);

enum tool_type { TOOL_TYPE_ANY, TOOL_TYPE_STRING, TOOL_TYPE_OTHER };
/* What a parameter may be, by its schema; parameters may be NULL. */
enum tool_type tool_type_of(const json_t *parameters, struct sv key);

/* How XML spells text that may hold anything; it ends with ]]>. */
#define TOOL_CDATA "<![CDATA["

/* A tagged value: `raw` (what is inside, where it is CDATA) as a string, or read as JSON or a Python literal; a string when it is
 * neither. */
void tool_put_value(struct str *out, struct sv raw, enum tool_type type);
/* "(a=1, b='x')" or "{a:1,b:"x"}" (quote: what stands around strings, NULL: ' or ") as a JSON
 * object. False when the text is not that; out is then as before. */
bool tool_put_call(struct str *out, struct sv text);
bool tool_put_object(struct str *out, struct sv text, const char *quote);

#endif
