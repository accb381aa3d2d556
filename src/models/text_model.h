/* text_model.h: a model with all that text needs: vocabulary, chat template and a
 * session to run it in. What `watt run` and the library stand on.
 *
 * The members may be used directly; text_model_close owns them. Threads: as the
 * members say; scratch and session have one owner thread. */
#ifndef MODELS_TEXT_MODEL_H
#define MODELS_TEXT_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/model.h"
#include "models/session.h"
#include "models/template.h"
#include "models/tokenizer.h"
#include "models/tool_format.h"

struct text_model {
    struct model     *model;
    struct tokenizer *tok;      /* NULL: the file has no vocabulary that we can use */
    struct template  *tmpl;     /* NULL: the file has no chat template */
    struct tool_format *tools;  /* how it spells calls and reasoning; NULL without a template */
    struct session   *session;
    char              tok_why[ERR_MSG_MAX];     /* why tok is NULL */
    char              tmpl_why[ERR_MSG_MAX];    /* why tmpl is NULL although there is one; "" else */
};

struct text_model_opts {
    struct model_opts   model;
    struct session_opts session;
    const char         *template_source;    /* in place of the file's template; NULL: the file's */
    const char         *template_name;      /* of that source, for messages */
    bool                no_session;         /* session stays NULL: somebody else runs the model */
};

/* A file without vocabulary or with a template that doesn't parse opens all the
 * same, and tok_why or tmpl_why says what is wrong; a template_source that
 * doesn't parse is an error. opts NULL: the defaults. */
int  text_model_open(struct text_model **out, const char *path, const struct text_model_opts *opts,
                     struct err *e) MUST_CHECK;
void text_model_close(struct text_model *t);    /* NULL is fine */

/* Appends the rendered conversation to out. vars: an object with "messages" (a
 * list of objects with "role" and "content"), "add_generation_prompt" and what
 * else the template knows. WATT_ENOTSUP without a template. Any thread. */
int  text_model_render(const struct text_model *t, const json_t *vars, struct str *out,
                       struct err *e) MUST_CHECK;
/* Appends the ids of a rendered conversation: control tokens are recognised, and
 * bos comes first where the vocabulary asks for it and the template wrote none. */
int  text_model_encode_chat(const struct text_model *t, const char *text, size_t len,
                            struct tokens *out, struct err *e) MUST_CHECK;
/* The spelling of a role's token, empty (data NULL) when there is none. */
struct sv text_model_role_text(const struct text_model *t, enum token_role role);

#endif
