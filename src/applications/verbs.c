/* verbs.c: the list of verbs, in the order that help shows them. A new verb is
 * one file and two lines here. */
#include "applications/cli.h"

extern const struct cli_verb verb_run;
extern const struct cli_verb verb_serve;
extern const struct cli_verb verb_bench;
extern const struct cli_verb verb_eval;
extern const struct cli_verb verb_train;
extern const struct cli_verb verb_inspect;
extern const struct cli_verb verb_convert;
extern const struct cli_verb verb_quantize;
extern const struct cli_verb verb_tokenize;
extern const struct cli_verb verb_template;
extern const struct cli_verb verb_logits;
extern const struct cli_verb verb_embed;
extern const struct cli_verb verb_ledger;
extern const struct cli_verb verb_meter;
extern const struct cli_verb verb_plan;
extern const struct cli_verb verb_sim;
extern const struct cli_verb verb_synth;
extern const struct cli_verb verb_cache;
extern const struct cli_verb verb_pull;
extern const struct cli_verb verb_list;
extern const struct cli_verb verb_rm;
extern const struct cli_verb verb_completion;

const struct cli_verb *const cli_verbs[] = {
    &verb_run,
    &verb_serve,
    &verb_bench,
    &verb_train,
    &verb_eval,
    &verb_pull,
    &verb_list,
    &verb_rm,
    &verb_inspect,
    &verb_convert,
    &verb_quantize,
    &verb_tokenize,
    &verb_template,
    &verb_logits,
    &verb_embed,
    &verb_ledger,
    &verb_meter,
    &verb_plan,
    &verb_sim,
    &verb_synth,
    &verb_cache,
    &verb_completion,
    NULL
};
