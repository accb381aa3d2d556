/* serve_options.h: options of `watt serve` that are of one model each: VALUE for the first model, or
 * NAME=VALUE for the one of that name (or alias): --draft, --template, --cache-dir; and --lora
 * ADAPTER=FILE or NAME=ADAPTER=FILE.
 *
 * Read once, when all models are named; read-only afterwards, by any thread. */
#ifndef APPLICATIONS_SERVE_OPTIONS_H
#define APPLICATIONS_SERVE_OPTIONS_H

#include "applications/api.h"
#include "applications/cli.h"
#include "models/lora.h"

struct serve_lists {            /* as given; borrowed */
    const struct cli_list *drafts, *templates, *folders, *loras;
};

struct serve_values;

/* first: the first model's own name, NULL when none was named. Templates and adapters are read. A name
 * that no model has, two values for a model, or a folder for two is WATT_EINVAL. */
int  serve_values_open(struct serve_values **out, struct api_models *ms, const char *first,
                       const struct serve_lists *given, struct err *e) MUST_CHECK;
void serve_values_close(struct serve_values *x);    /* NULL is fine */

/* Options as other servers spell them. */
extern const struct cli_alias serve_aliases[];

/* What is said for a model by its own name; NULL: nothing. */
const char *serve_draft(const struct serve_values *x, const char *model);
const char *serve_folder(const struct serve_values *x, const char *model);
/* The text; *file: where it was read. */
const char *serve_template(const struct serve_values *x, const char *model, const char **file);
/* Its adapters in their order, at most CLI_LIST_MAX; returns how many. */
uint32_t serve_adapters(const struct serve_values *x, const char *model,
                        const struct lora *out[CLI_LIST_MAX]);
/* Those of all models, as requests name them. */
const struct api_adapter *serve_all_adapters(const struct serve_values *x, size_t *n);

#endif
