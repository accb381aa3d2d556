/* api_responses.h: requests of the Responses API as those of chat completions. */
#ifndef APPLICATIONS_API_RESPONSES_H
#define APPLICATIONS_API_RESPONSES_H

#include "applications/api.h"

/* The body of a chat completion that asks for the same: `before` (the conversation that the
 * request goes on from, or NULL) in front of the items of `input`. *items: the input as a list of
 * items; *said: the conversation without instructions, for the store. All three are new. */
int api_responses_body(const struct json_place *at, const json_t *before, json_t **body,
                       json_t **items, json_t **said, struct err *e) MUST_CHECK;

#endif
