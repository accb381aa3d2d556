/* api_prompt.h: from a request's messages to the prompt that the model was trained on. */
#ifndef APPLICATIONS_API_PROMPT_H
#define APPLICATIONS_API_PROMPT_H

#include "applications/api.h"

/* Messages as templates want them: parts of text joined, arguments of tool calls as objects, marks
 * that change with every request taken out of system messages. `at` is the list. *out is new. */
int api_messages(const struct json_place *at, json_t **out, struct err *e) MUST_CHECK;
/* Renders and encodes. With continue_final_message the last message, which must be a text of the
 * assistant, stays open, and is c->continued. vars is an object with "messages", completed here from the request's
 * tools, chat_template_kwargs, reasoning_effort, enable_thinking, add_generation_prompt; its
 * reference is taken over. Appends. */
int api_prompt(struct api_call *c, json_t *vars, struct str *text, struct tokens *ids,
               struct err *e) MUST_CHECK;
/* thinking, an object as Anthropic has it, or true or false: into the body's enable_thinking, where the
 * template finds it, and into *budget its budget_tokens. */
int api_read_thinking(struct api_call *c, uint32_t *budget, struct err *e) MUST_CHECK;
/* The prompt of a chat completion; false: has answered. Appends. */
bool api_chat_prompt(struct api_call *c, struct str *text, struct tokens *ids);
/* Runs c->body as a chat completion and frames the answer. Answers, whatever happens. */
void api_chat(struct api_call *c, const struct api_frame *frame, const char *id_prefix);
/* A prompt without a template: the field `prefix` is a text, a list of one, or token ids; with a
 * field `suffix` that isn't empty the middle between them is asked for, where the vocabulary
 * can. Appends; at least one id. */
int api_text_prompt(struct api_call *c, const char *prefix, const char *suffix, struct str *text,
                    struct tokens *ids, struct err *e) MUST_CHECK;
/* The same of a list with any number of prompts: into `a`. */
int api_text_prompts(struct api_call *c, const char *prefix, const char *suffix, struct api_ask *a,
                     struct err *e) MUST_CHECK;
/* Fill in the middle, for vocabularies that were trained for it; else WATT_ENOTSUP. Appends. */
int api_middle_prompt(struct api_call *c, struct sv prefix, struct sv suffix, struct tokens *ids,
                      struct err *e) MUST_CHECK;

#endif
