/* sweep_targets.h: who answers the requests of a sweep (sweep.h). */
#ifndef APPLICATIONS_SWEEP_TARGETS_H
#define APPLICATIONS_SWEEP_TARGETS_H

#include "applications/sweep.h"
#include "models/service.h"

/* The service over a model in this process. so: executor, threads, types; n_ctx: of one answer with
 * its prompt. m is borrowed, meter too (NULL: none): it is told what is computed, which an estimate
 * needs. The target is opened whole or not at all; t->close() it. */
int sweep_service_open(struct sweep_target *t, const struct model *m, const struct session_opts *so,
                       uint32_t n_ctx, uint32_t max_seqs, uint32_t max_rows,
                       struct meter *meter, struct err *e) MUST_CHECK;

enum sweep_endpoint { SWEEP_COMPLETIONS, SWEEP_CHAT };

struct sweep_url {
    const char *url;            /* of the server, with or without /v1 */
    const char *model;          /* NULL: the first that /v1/models lists */
    const char *key;            /* NULL: none */
    enum sweep_endpoint endpoint;
};
/* Any server with OpenAI's API that streams. Texts are words of a short list, about one token each;
 * what was really counted is taken from the answers' usage. WATT_EIO: it does not answer. */
int sweep_url_open(struct sweep_target *t, const struct sweep_url *u, struct err *e) MUST_CHECK;

#endif
