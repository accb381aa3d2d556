/* weights_cache.h: prepared weights in a folder on disk, mapped at the next start.
 *
 * A file holds the executor's packed region as it lies in memory, behind a header that says of
 * which model and in which layout. It is found by what the model's files contain (their sizes,
 * a sample of their bytes) and by the layout (sizes, types and places of all packed matrices,
 * layout version, processor family, byte order), so copies of a model share one. Before it is
 * used
 *   - its header, size and table of hashes are checked, and the hashes of some chunks, other ones
 *     each time (all of them when `verify` is set);
 *   - sizes and times of change of the model's files must be those it was made from. With another
 *     time all bytes of the model are read and hashed, and the time is brought up to date where
 *     they are the same;
 *   - the executor packs one panel of every matrix anew and compares.
 * What fails any of these is made again and replaces the old one; files appear whole, by renaming,
 * after they were synced. What this misses: a change of the model's file that keeps size and
 * time, or damage of the cache's file, that the samples don't hit.
 *
 * Nothing here fails the opening of a model: when the folder can't be written or the disk is
 * full, `note` says so and the model goes on with weights in memory. A file in use must not be
 * shortened (replaced or removed it may be). */
#ifndef CHIPS_CPU_WEIGHTS_CACHE_H
#define CHIPS_CPU_WEIGHTS_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/team.h"

#define WEIGHTS_CACHE_SUFFIX ".wattpack"
#define WEIGHTS_CACHE_MAX_DEFAULT ((uint64_t)256 << 30)

struct weights_cache_opts {
    const char *dir;            /* made when absent (mode 0700); NULL: no cache */
    uint64_t    max_bytes;      /* of all files in it; those used longest ago go first. 0: the
                                 * default */
    bool        verify;         /* hash every byte of a cached file before it is used */
    const int  *fds;            /* the model's files, open for reading */
    uint32_t    n_fds;
    const char *name;           /* the model's path, for lists */
    /* What a person may want to know, in one line; NULL: not told. */
    void      (*note)(void *ctx, const char *text);
    void       *ctx;
};

/* Which weights, of which layout. */
struct weights_key {
    uint64_t layout;            /* the caller's hash of everything that decides where bytes lie */
    uint64_t data_bytes;
    uint64_t sample, times, source_bytes;   /* of the model's files */
};

struct weights_cached {         /* zeroed: none */
    const uint8_t *data;        /* [data_bytes], read-only, from a 2 MiB boundary of the file */
    void          *map;
    size_t         map_bytes;
};

/* Reads the samples. False when there can be no cache for these files; `note` was told. */
bool weights_cache_key(struct weights_key *k, const struct weights_cache_opts *o, uint64_t layout,
                       uint64_t data_bytes);
/* Maps the file of this key; false: there is none that holds. */
bool weights_cache_find(struct weights_cached *c, const struct weights_key *k,
                        const struct weights_cache_opts *o, struct team *team);
/* Writes it; returns whether it is there now. */
bool weights_cache_store(const struct weights_key *k, const struct weights_cache_opts *o,
                         const void *data, struct team *team);
void weights_cache_unmap(struct weights_cached *c);     /* a zeroed one is fine */

/* ---- looking after a folder ---- */

struct weights_cache_entry {
    char     file[64];          /* in the folder */
    char     name[384];         /* the model it was made of; "" when the header is damaged */
    uint64_t bytes;
    int64_t  used_s;            /* last use, seconds since 1970 */
    bool     sound;             /* header and size fit; with `verify` every byte as well */
};

/* Calls each with every cache file of a folder, latest use first; a non-zero return ends it. A
 * folder that does not exist is empty. WATT_EIO, WATT_ENOMEM. */
int  weights_cache_list(const char *dir, bool verify,
                        int (*each)(void *ctx, const struct weights_cache_entry *entry), void *ctx,
                        struct err *e) MUST_CHECK;
/* Removes one of them. */
int  weights_cache_remove(const char *dir, const char *file, struct err *e) MUST_CHECK;

#endif
