/* template_vars.h: variables under the names and in the forms that a template knows.
 *
 * Chat templates take tools as the list `tools`. One older convention (FireFunction v2) takes them as
 * `functions`, the JSON text of their functions, and the time as the text `datetime`; its callers give both, and
 * such a template can't be rendered without. */
#ifndef MODELS_TEMPLATE_VARS_H
#define MODELS_TEMPLATE_VARS_H

#include "models/template.h"

/* Can the model be told of tools? */
bool template_takes_tools(const struct template *t);
/* template_render with what this template needs beside in->vars; what stands there stays. `datetime` is
 * the hour (UTC), so that prompts of the same hour begin alike. */
int  template_render_chat(const struct template *t, const struct template_input *in, struct str *out,
                          struct err *e) MUST_CHECK;

#endif
