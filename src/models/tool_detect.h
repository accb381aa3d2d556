/* tool_detect.h: the learning behind tool_format.h. */
#ifndef MODELS_TOOL_DETECT_H
#define MODELS_TOOL_DETECT_H

#include "models/tool_format.h"

/* Fills a format whose strings are all empty. False: no memory. */
bool tool_detect(struct tool_format *f, const struct template *t, struct sv bos, struct sv eos);
/* Replaces a string of a format by a copy. */
bool tool_set(char **field, struct sv text);

#endif
