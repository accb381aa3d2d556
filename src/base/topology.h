/* topology.h: the processors that this process may use, and how they belong together: packages,
 * cores, siblings of a core, memory nodes, fast and slow cores, as Linux tells in sysfs.
 *
 * Where sysfs is hidden (some containers) every permitted processor counts as a core of its own
 * on one node. Read once; later changes (hotplug, another cpuset) are not followed. */
#ifndef BASE_TOPOLOGY_H
#define BASE_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TOPO_MAX_CPUS  4096u
#define TOPO_MAX_NODES 1024u

/* Numbers of processors or nodes. */
struct topo_set { uint64_t word[TOPO_MAX_CPUS / 64]; };

static inline bool topo_has(const struct topo_set *s, uint32_t i)
{
    return i < TOPO_MAX_CPUS && (s->word[i / 64] >> (i % 64) & 1) != 0;
}
static inline void topo_add(struct topo_set *s, uint32_t i)
{
    if (i < TOPO_MAX_CPUS)
        s->word[i / 64] |= UINT64_C(1) << (i % 64);
}
uint32_t topo_count(const struct topo_set *s);

/* "0-3,8,10-11", as the kernel writes lists and people write them; white space at the end is
 * skipped, an empty list is an empty set. WATT_EINVAL names the text. */
int  topo_set_parse(struct topo_set *s, const char *text, struct err *e) MUST_CHECK;

struct topo_cpu {
    uint32_t id;            /* as the kernel numbers it */
    uint32_t package;
    uint32_t core;          /* lowest processor number of the core: unique in the machine */
    uint32_t sibling;       /* 0 for the first permitted processor of its core, then 1, … */
    uint32_t node;
    uint32_t capacity;      /* speed beside the fastest of the machine, 1..1024 */
};

struct topology {
    struct topo_cpu *cpus;  /* permitted and online, ascending by id; at least one */
    uint32_t n_cpus, n_cores, n_packages, n_nodes;      /* of the permitted ones */
    uint32_t quota;         /* whole processors that control groups allow, UINT32_MAX: no limit */
};

/* root stands in front of /sys and /proc, "" for this machine; with another one the permitted
 * processors are those of ROOT/proc/self/status. WATT_ENOMEM. */
int  topology_read(struct topology *t, const char *root, struct err *e) MUST_CHECK;
void topology_deinit(struct topology *t);       /* a zeroed one is fine */

/* How many threads to start when nobody said: one per core (a second one on a core adds little
 * to code that keeps its multipliers busy, and costs cache), at most the quota; of the listed
 * processors, each that was listed. only NULL: all. */
uint32_t topology_threads(const struct topology *t, const struct topo_set *only);

/* Chooses a processor for each of n workers into out[n], best first: fast cores before slow ones,
 * cores before second siblings, turn by turn over the nodes (weights lie spread over them); from
 * the start again when n is larger. only as above; WATT_EINVAL when it names a processor that is
 * not permitted, or none. */
int  topology_place(const struct topology *t, const struct topo_set *only, uint32_t n,
                    struct topo_cpu *out, struct err *e) MUST_CHECK;

#endif
