/* api_models.h: the models of a server: found by name, loaded when somebody asks, unloaded when
 * nobody does, all within one bound of memory.
 *
 * A model may be in memory twice: as what answers, and as what embeds (a file is then another
 * program, over the same weights). Each is a "use" of it. Whoever works with one holds it: it stays until that is given
 * back. A call for one that isn't loaded is parked; a thread of its own loads it, one after the
 * other, and then runs the calls that wait, or answers all of them with what went wrong. What
 * doesn't fit makes idle ones leave, least recently used first; what can't fit at all is refused
 * for good (WATT_ELIMIT), what can't fit because others are busy for now (WATT_EBUSY), both with
 * the numbers.
 *
 * Every function may be called by any thread. */
#ifndef APPLICATIONS_API_MODELS_H
#define APPLICATIONS_API_MODELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "infrastructure/store.h"

struct api_call;
struct api_model;
struct api_models;
struct service;

#define API_KEEP_FOREVER UINT64_MAX
#define API_MAX_MODELS   4096u
#define API_MAX_PARKED   4096u      /* calls that wait for a model */

enum api_use { API_USE_ANSWER, API_USE_EMBED };
#define API_USES 2

/* How a model gets into memory; on the thread that loads. */
struct api_loader {
    void *ctx;
    /* Opens the file and all but the weights; *bytes: what `open` will take beside the weights that
     * m->weights has already. */
    int  (*plan)(void *ctx, struct api_model *m, const char *path, enum api_use use, uint64_t *bytes,
                 struct err *e);
    int  (*open)(void *ctx, struct api_model *m, const char *path, enum api_use use, struct err *e);
    void (*close)(void *ctx, struct api_model *m);      /* also of one that is half open */
    /* A parked call goes on; takes it over. rc below 0: it failed with e. */
    void (*resume)(struct api_call *c, int rc, const struct err *e);
};

struct api_models_opts {
    struct api_loader loader;
    uint64_t memory_bytes;          /* of all models; 0: no bound */
    uint64_t keep_ns;               /* idle ones stay so long */
    const struct store *store;      /* its models are there too; borrowed; NULL: none */
};

int  api_models_open(struct api_models **out, const struct api_models_opts *o,
                     struct err *e) MUST_CHECK;
/* From now on nothing is loaded, parked calls fail with WATT_ECANCEL. Waits until the answers of all
 * models are over, at most wait_ns: true when they are. */
bool api_models_drain(struct api_models *ms, uint64_t wait_ns);
/* Ends what runs; afterwards nothing is loaded any more, and what is loaded refuses requests. */
void api_models_stop(struct api_models *ms);
void api_models_close(struct api_models *ms);   /* NULL is fine */

/* Before others use it. The first is the one that is meant when a request names none. aliases are
 * copied. WATT_EINVAL: a name is taken. */
int  api_models_add(struct api_models *ms, const char *name, const char *path,
                    const char *const *aliases, size_t n_aliases, struct err *e) MUST_CHECK;
/* Loads one here and now. */
int  api_models_load(struct api_models *ms, const char *name, enum api_use use,
                     struct err *e) MUST_CHECK;

/* ---- one model ---- */

/* The model's own name for a name or an alias of it (":latest" may follow), "" or NULL being the
 * first; NULL: there is none. Lives as long as ms. */
const char *api_models_name(struct api_models *ms, const char *name);

enum api_hold { API_HELD, API_PARKED, API_REFUSED };
/* Holds a model in memory for a call: *m. PARKED: it will be loaded; a copy of *c was taken over and
 * `resume` will be called with it. REFUSED: e says why. c NULL: one that isn't loaded is WATT_EBUSY,
 * and nothing is begun. name as api_models_name gives it. */
enum api_hold api_models_hold(struct api_models *ms, const char *name, enum api_use use,
                              const struct api_call *c, const struct api_model **m, struct err *e);
void api_model_hold(const struct api_model *m);         /* once more */
void api_model_release(const struct api_model *m);      /* NULL is fine */
/* How long it stays once idle, from now on; 0: it goes at once. */
void api_model_keep(const struct api_model *m, uint64_t keep_ns);
uint64_t api_model_load_ns(const struct api_model *m);  /* how long it took */

/* "5m", "1h30m", "90s", "300" (seconds), negative: forever. False: none of these. */
bool api_keep_parse(const char *text, uint64_t *keep_ns);

/* Begins to load, without waiting; or lets it go as soon as nobody holds it. WATT_ENOENT. */
int  api_models_want(struct api_models *ms, const char *name, struct err *e) MUST_CHECK;
int  api_models_unload(struct api_models *ms, const char *name, struct err *e) MUST_CHECK;

/* ---- all of them ---- */

enum api_state { API_UNLOADED, API_LOADING, API_LOADED, API_FAILED };

struct api_model_info {             /* valid during the call */
    const char *name, *path;
    const struct store_model *stored;   /* NULL: no model of the store */
    const char *const *aliases;
    size_t      n_aliases;
    enum api_use use;
    enum api_state state;
    const char *why;                /* FAILED */
    bool        first, from_store;
    const struct api_model *m;      /* LOADED: may be read during the call; else NULL */
    uint32_t    n_holders;
    uint64_t    bytes;              /* LOADED: of memory; shared weights are one use's only */
    int64_t     idle_left_ns;       /* until it goes; -1: never, or somebody holds it */
};
/* Every model once, or for each use that is loaded, loading or has failed. stored: with those of
 * the store that nobody has asked for yet. fn must not call functions of this file. */
void api_models_each(struct api_models *ms, bool stored,
                     void (*fn)(void *ctx, const struct api_model_info *i), void *ctx);
/* fn once, with the services of all models that are loaded; as above. */
void api_models_services(struct api_models *ms,
                         void (*fn)(void *ctx, struct service *const *list, size_t n), void *ctx);
void api_models_memory(struct api_models *ms, uint64_t *used, uint64_t *bound);

#endif
