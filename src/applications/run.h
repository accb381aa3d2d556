/* run.h: what the files of `watt run` share: its options and the conversation in
 * progress. cli_run.c parses and starts, run_commands.c does what begins with a
 * slash. */
#ifndef APPLICATIONS_RUN_H
#define APPLICATIONS_RUN_H

#include "applications/meter_args.h"
#include "applications/chat.h"
#include "applications/cli.h"
#include "applications/model_args.h"
#include "applications/run_input.h"
#include "applications/run_view.h"

/* What a person may set, on the command line or with /set. NaN and negative
 * numbers mean "not given" where the sampler has a default of its own. */
struct run_options {
    /* sampling */
    double  temp, dynatemp_range, dynatemp_exponent, top_p, min_p, typical_p;
    double  xtc_probability, xtc_threshold, repeat_penalty, frequency_penalty, presence_penalty;
    double  dry_multiplier, dry_base, mirostat_tau, mirostat_eta;
    int64_t top_k, repeat_last_n, dry_allowed_length, dry_last_n, mirostat, seed;
    struct cli_list dry_breakers, logit_bias, stop;
    const char *samplers;
    /* diffusion language models */
    int64_t diffusion_steps, diffusion_block;
    double  diffusion_threshold;
    int     diffusion_algorithm, diffusion_cache;
    /* the answer */
    int64_t n;
    bool    ignore_end, raw, json, quiet, verbose, hide_reasoning, history, color;
    int     think;              /* index in "auto|on|off" */
    const char *system, *file, *template_file, *lora;
    /* the engine */
    int64_t ctx;
    struct machine_args machine;
    int     kv, exec;           /* indices in KV_CHOICES and EXEC_CHOICES */
    const char *isa;
    struct meter_args meter;
};

extern const struct cli_opt run_option_table[];
extern const struct run_options run_option_defaults;

struct run {
    const struct cli   *cli;
    struct run_options  o;
    const char         *path;
    struct text_model  *model;
    struct chat         chat;
    struct run_view     view;
    uint64_t            seed;       /* that is in use */
    struct logit_bias   bias[CLI_LIST_MAX];
    bool                leave;      /* /exit was said */
    struct meter       *meter;      /* NULL: nobody asks for joules */
};

/* r->o into settings; r->bias and r->o must outlive them. WATT_EINVAL. */
int  run_settings(struct run *r, struct chat_settings *set, struct err *e) MUST_CHECK;
/* Answers the conversation as it stands (or, raw, completes text) and shows it;
 * the answer becomes a message. Returns an enum cli_exit; what is wrong was told. */
int  run_answer(struct run *r, const char *raw_text, size_t raw_len);
/* A line that begins with a slash. */
void run_command(struct run *r, const char *line);
/* Every command with its slash, NULL-ended: what Tab completes. */
const char *const *run_command_words(void);

#endif
