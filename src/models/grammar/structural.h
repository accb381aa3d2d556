/* structural.h: grammars put together from parts, as JSON that names them ("structural tags", after
 * xgrammar): what requests send as structural_tag, and what tool calls are constrained by.
 *
 * A part is an object with a type:
 *   const_string   value
 *   json_schema    json_schema; strict (closes objects that list properties)
 *   regex          pattern
 *   any_text       excludes: a list of texts that don't occur in it
 *   sequence       elements
 *   or             elements
 *   optional, star, plus   content
 *   tag            begin, content, end (a text or a list of them); free text as content runs up to
 *                  the first end
 *   triggered_tags triggers, tags, at_least_one, stop_after_first, excludes: free text in which
 *                  every trigger begins a tag
 *   tags_with_separator    tags, separator, at_least_one, stop_after_first
 *   members        open, close, separator, items ([{required, content}]): those that come in their
 *                  order, with separators between them (ours)
 *   raw_text       json_schema, excludes, trimmed, no_literals: a string of the schema without quotes
 *                  (raw_text.h) (ours)
 * The whole is a part, or {"type": "structural_tag", "format": part}, or the older form
 * {"structures": [{begin, schema, end}], "triggers": […]}. */
#ifndef MODELS_GRAMMAR_STRUCTURAL_H
#define MODELS_GRAMMAR_STRUCTURAL_H

#include "models/grammar/grammar.h"

#define STRUCTURAL_MAX_DEPTH 32u
#define STRUCTURAL_MAX_PARTS 20000u

/* WATT_ENOTSUP, WATT_EFORMAT, WATT_EINVAL, WATT_ELIMIT with the place; WATT_ENOMEM. */
int grammar_from_structure(struct grammar **out, const json_t *structure, struct err *e) MUST_CHECK;

#endif
