/* topology.c: reads sysfs and control groups; see topology.h. */
#include "base/topology.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define TEXT_BYTES 16384u       /* a list of every second of 4,096 processors fits */
#define MAX_CAPACITY 1024u

/* ---- sets ---- */

uint32_t topo_count(const struct topo_set *s)
{
    uint32_t n = 0;

    for (size_t i = 0; i < sizeof s->word / sizeof s->word[0]; i++)
        n += (uint32_t)__builtin_popcountll(s->word[i]);
    return n;
}

static bool number(const char **at, uint32_t *out)
{
    char *end;
    unsigned long v;

    if (**at < '0' || **at > '9')
        return false;
    v = strtoul(*at, &end, 10);
    if (v >= TOPO_MAX_CPUS)
        return false;
    *at = end;
    *out = (uint32_t)v;
    return true;
}

int topo_set_parse(struct topo_set *s, const char *text, struct err *e)
{
    const char *at = text;

    memset(s, 0, sizeof *s);
    while (*at && *at != '\n' && *at != ' ') {
        uint32_t first, last;

        if (!number(&at, &first))
            goto bad;
        last = first;
        if (*at == '-') {
            at++;
            if (!number(&at, &last) || last < first)
                goto bad;
        }
        for (uint32_t i = first; i <= last; i++)
            topo_add(s, i);
        if (*at == ',')
            at++;
        else if (*at && *at != '\n' && *at != ' ')
            goto bad;
    }
    if (at[strspn(at, " \n")] == '\0')
        return 0;
bad:
    return err_set(e, WATT_EINVAL, "processors \"%.60s\": expected a list like 0-3,8 of numbers "
                   "below %u", text, TOPO_MAX_CPUS);
}

/* ---- small files ---- */

struct reader {
    const char *root;
    char *text;             /* [TEXT_BYTES] what was read last */
};

/* The beginning of ROOT + path into r->text; false when there is none. */
static bool slurp(struct reader *r, const char *path)
{
    char whole[PATH_MAX];
    const int len = snprintf(whole, sizeof whole, "%s%s", r->root, path);
    size_t n;
    FILE *f;

    if (len < 0 || (size_t)len >= sizeof whole || !(f = fopen(whole, "re")))
        return false;
    n = fread(r->text, 1, TEXT_BYTES - 1, f);
    (void)fclose(f);
    r->text[n] = '\0';
    return n > 0;
}

static bool slurp_of(struct reader *r, uint32_t cpu, const char *what)
{
    char path[128];

    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/%s", cpu, what);
    return slurp(r, path);
}

static bool read_set(struct reader *r, const char *path, struct topo_set *s)
{
    struct err ignored;

    return slurp(r, path) && topo_set_parse(s, r->text, &ignored) == 0;
}

static bool read_number(struct reader *r, uint32_t cpu, const char *what, uint32_t *out)
{
    char *end;
    unsigned long v;

    if (!slurp_of(r, cpu, what))
        return false;
    v = strtoul(r->text, &end, 10);
    if (end == r->text || v > UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* ---- control groups ---- */

/* "QUOTA PERIOD" or v1's two files, in whole processors; UINT32_MAX: no limit. */
static uint32_t quota_of(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return UINT32_MAX;
    quota = (quota - 1) / period + 1;
    return quota < UINT32_MAX ? (uint32_t)quota : UINT32_MAX;
}

/* A file of a control group's folder. False: not there, or its name is too long. */
static bool slurp_group(struct reader *r, const char *mount, const char *folder, const char *file)
{
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/%s", mount, folder, file);

    return n > 0 && (size_t)n < sizeof path && slurp(r, path);
}

static uint32_t quota_at(struct reader *r, const char *mount, const char *folder)
{
    long long quota, period;
    char *end;

    if (!*mount) {
        if (!slurp_group(r, mount, folder, "cpu.max"))
            return UINT32_MAX;
        quota = strtoll(r->text, &end, 10);         /* "max 100000" has no number */
        return end == r->text ? UINT32_MAX : quota_of(quota, strtoll(end, NULL, 10));
    }
    if (!slurp_group(r, mount, folder, "cpu.cfs_quota_us"))
        return UINT32_MAX;
    quota = strtoll(r->text, NULL, 10);
    period = slurp_group(r, mount, folder, "cpu.cfs_period_us") ? strtoll(r->text, NULL, 10) : 0;
    return quota_of(quota, period);
}

/* The tightest of a group and its parents. In a container our own folder may be mounted as the
 * root, and the path in /proc not exist. */
static uint32_t quota_up(struct reader *r, const char *mount, const char *of)
{
    uint32_t limit = quota_at(r, mount, "");
    char folder[PATH_MAX];

    (void)snprintf(folder, sizeof folder, "%s", of);
    while (folder[0] == '/' && folder[1]) {
        const uint32_t q = quota_at(r, mount, folder);

        limit = q < limit ? q : limit;
        *strrchr(folder, '/') = '\0';
    }
    return limit;
}

/* Is "cpu" among v1's comma-separated controllers? */
static bool names_cpu(const char *controllers)
{
    for (const char *at = controllers; *at;) {
        const size_t len = strcspn(at, ",");

        if (len == 3 && strncmp(at, "cpu", 3) == 0)
            return true;
        at += len + (at[len] == ',');
    }
    return false;
}

static uint32_t cgroup_quota(struct reader *r)
{
    char v2[PATH_MAX] = "", v1[PATH_MAX] = "", mount[256] = "";
    uint32_t limit;

    if (slurp(r, "/proc/self/cgroup"))
        for (char *line = r->text, *next; line; line = next) {
            char *controllers, *folder;

            next = strchr(line, '\n');
            if (next)
                *next++ = '\0';
            controllers = strchr(line, ':');
            folder = controllers ? strchr(controllers + 1, ':') : NULL;
            if (!folder)
                continue;
            *folder++ = '\0';
            controllers++;
            if (!*controllers)
                (void)snprintf(v2, sizeof v2, "%s", folder);
            else if (names_cpu(controllers) && strlen(controllers) < sizeof mount - 1) {
                (void)snprintf(v1, sizeof v1, "%s", folder);
                (void)snprintf(mount, sizeof mount, "/%s", controllers);
            }
        }
    limit = quota_up(r, "", v2);
    if (*mount) {
        uint32_t q = quota_up(r, mount, v1);

        limit = q < limit ? q : limit;
        (void)snprintf(mount, sizeof mount, "/cpu");    /* where several are mounted as one */
        q = quota_up(r, mount, v1);
        limit = q < limit ? q : limit;
    }
    return limit;
}

/* ---- permitted processors ---- */

static bool status_allows(struct reader *r, struct topo_set *s)
{
    static const char key[] = "Cpus_allowed_list:";
    struct err ignored;
    char *at, *end;

    if (!slurp(r, "/proc/self/status") || !(at = strstr(r->text, key)))
        return false;
    at += sizeof key - 1;
    at += strspn(at, " \t");
    end = strchr(at, '\n');
    if (end)
        *end = '\0';
    return topo_set_parse(s, at, &ignored) == 0;
}

static bool permitted(struct reader *r, struct topo_set *s)
{
    long n;

    if (*r->root)
        return status_allows(r, s);
    memset(s, 0, sizeof *s);
    n = syscall(SYS_sched_getaffinity, 0, sizeof s->word, s->word);
    return n > 0 && topo_count(s) > 0;
}

/* ---- one processor ---- */

/* Speed in whatever unit the system has; 0: it doesn't say. */
static uint32_t raw_speed(struct reader *r, uint32_t cpu)
{
    uint32_t v;

    if (read_number(r, cpu, "cpu_capacity", &v) ||
        read_number(r, cpu, "cpufreq/cpuinfo_max_freq", &v))
        return v;
    return 0;
}

static void describe(struct reader *r, struct topo_cpu *c)
{
    struct topo_set siblings;
    struct err ignored;

    if (!read_number(r, c->id, "topology/physical_package_id", &c->package))
        c->package = 0;
    c->core = c->id;
    if ((slurp_of(r, c->id, "topology/core_cpus_list") ||
         slurp_of(r, c->id, "topology/thread_siblings_list")) &&
        topo_set_parse(&siblings, r->text, &ignored) == 0 && topo_has(&siblings, c->id))
        for (uint32_t i = 0; i < c->id && c->core == c->id; i++)
            if (topo_has(&siblings, i))
                c->core = i;
    c->capacity = raw_speed(r, c->id);
}

static void set_nodes(struct reader *r, struct topology *t)
{
    struct topo_set nodes, of_node;

    if (!read_set(r, "/sys/devices/system/node/online", &nodes))
        return;
    for (uint32_t n = 0; n < TOPO_MAX_NODES; n++) {
        char path[128];

        if (!topo_has(&nodes, n))
            continue;
        (void)snprintf(path, sizeof path, "/sys/devices/system/node/node%u/cpulist", n);
        if (!read_set(r, path, &of_node))
            continue;
        for (uint32_t i = 0; i < t->n_cpus; i++)
            if (topo_has(&of_node, t->cpus[i].id))
                t->cpus[i].node = n;
    }
}

/* Frequencies or capacities to 1..1024, and slow cores that only the kernel's list tells. */
static void set_capacities(struct reader *r, struct topology *t)
{
    struct topo_set slow;
    uint32_t most = 0, least = UINT32_MAX;

    for (uint32_t i = 0; i < t->n_cpus; i++) {
        most = t->cpus[i].capacity > most ? t->cpus[i].capacity : most;
        least = t->cpus[i].capacity < least ? t->cpus[i].capacity : least;
    }
    for (uint32_t i = 0; i < t->n_cpus; i++) {
        struct topo_cpu *c = &t->cpus[i];

        c->capacity = least == 0 ? MAX_CAPACITY     /* not all of them say */
                                 : (uint32_t)((uint64_t)c->capacity * MAX_CAPACITY / most);
        if (c->capacity == 0)
            c->capacity = 1;
    }
    if (least == most || least == 0)
        if (read_set(r, "/sys/devices/cpu_atom/cpus", &slow))
            for (uint32_t i = 0; i < t->n_cpus; i++)
                if (topo_has(&slow, t->cpus[i].id))
                    t->cpus[i].capacity = MAX_CAPACITY * 5 / 8;
}

static void count_up(struct topology *t)
{
    struct topo_set packages = { { 0 } }, nodes = { { 0 } };

    for (uint32_t i = 0; i < t->n_cpus; i++) {
        struct topo_cpu *c = &t->cpus[i];

        c->sibling = 0;
        for (uint32_t k = 0; k < i; k++)
            c->sibling += t->cpus[k].core == c->core;
        t->n_cores += c->sibling == 0;
        topo_add(&packages, c->package);
        topo_add(&nodes, c->node);
    }
    t->n_packages = topo_count(&packages) ? topo_count(&packages) : 1;
    t->n_nodes = topo_count(&nodes);
}

int topology_read(struct topology *t, const char *root, struct err *e)
{
    struct reader r = { .root = root, .text = mem_alloc(TEXT_BYTES) };
    struct topo_set online, may;

    *t = (struct topology){ .quota = UINT32_MAX };
    if (!r.text)
        return err_set(e, WATT_ENOMEM, "processors: out of memory");
    if (!permitted(&r, &may)) {         /* more processors than a set holds, or no /proc */
        if (!read_set(&r, "/sys/devices/system/cpu/online", &may)) {
            memset(&may, 0, sizeof may);
            topo_add(&may, 0);
        }
    }
    if (!read_set(&r, "/sys/devices/system/cpu/online", &online))
        online = may;
    t->cpus = mem_calloc(topo_count(&may) + 1, sizeof *t->cpus);
    if (!t->cpus) {
        mem_free(r.text);
        return err_set(e, WATT_ENOMEM, "processors: out of memory");
    }
    for (uint32_t i = 0; i < TOPO_MAX_CPUS; i++)
        if (topo_has(&may, i) && topo_has(&online, i)) {
            t->cpus[t->n_cpus].id = i;
            describe(&r, &t->cpus[t->n_cpus++]);
        }
    if (t->n_cpus == 0)                 /* the lists contradict each other */
        t->cpus[t->n_cpus++] = (struct topo_cpu){ .capacity = MAX_CAPACITY };
    set_nodes(&r, t);
    set_capacities(&r, t);
    count_up(t);
    t->quota = cgroup_quota(&r);
    mem_free(r.text);
    return 0;
}

void topology_deinit(struct topology *t)
{
    mem_free(t->cpus);
    *t = (struct topology){ 0 };
}

/* ---- choosing ---- */

uint32_t topology_threads(const struct topology *t, const struct topo_set *only)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->n_cpus; i++)
        n += only ? topo_has(only, t->cpus[i].id) : t->cpus[i].sibling == 0;
    n = n < t->quota ? n : t->quota;
    return n > 0 ? n : 1;
}

/* Cores whose speeds differ by some percent, as binned ones do, are of one class. */
static uint32_t class_of(const struct topo_cpu *c)
{
    return (c->capacity + 64) / 128;
}

struct candidate { struct topo_cpu cpu; uint32_t turn; };

static int by_rank(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->cpu.sibling != y->cpu.sibling)
        return x->cpu.sibling < y->cpu.sibling ? -1 : 1;
    if (class_of(&x->cpu) != class_of(&y->cpu))
        return class_of(&x->cpu) > class_of(&y->cpu) ? -1 : 1;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    return x->cpu.id < y->cpu.id ? -1 : x->cpu.id > y->cpu.id;
}

static int check_list(const struct topology *t, const struct topo_set *only, struct err *e)
{
    struct topo_set mine = { { 0 } };

    for (uint32_t i = 0; i < t->n_cpus; i++)
        topo_add(&mine, t->cpus[i].id);
    for (uint32_t i = 0; i < TOPO_MAX_CPUS; i++)
        if (topo_has(only, i) && !topo_has(&mine, i))
            return err_set(e, WATT_EINVAL, "processor %u is not among the %u that this process may "
                           "use", i, t->n_cpus);
    if (topo_count(only) == 0)
        return err_set(e, WATT_EINVAL, "processors: the list is empty");
    return 0;
}

int topology_place(const struct topology *t, const struct topo_set *only, uint32_t n,
                   struct topo_cpu *out, struct err *e)
{
    struct candidate *c;
    uint32_t k = 0;
    int rc = only ? check_list(t, only, e) : 0;

    if (rc < 0)
        return rc;
    c = mem_array(t->n_cpus, sizeof *c);
    if (!c)
        return err_set(e, WATT_ENOMEM, "processors: out of memory");
    for (uint32_t i = 0; i < t->n_cpus; i++) {
        if (only && !topo_has(only, t->cpus[i].id))
            continue;
        c[k] = (struct candidate){ .cpu = t->cpus[i] };
        c[k].cpu.sibling = 0;           /* among those that were listed */
        for (uint32_t j = 0; j < k; j++) {
            c[k].cpu.sibling += c[j].cpu.core == c[k].cpu.core;
        }
        for (uint32_t j = 0; j < k; j++)
            c[k].turn += c[j].cpu.node == c[k].cpu.node && c[j].cpu.sibling == c[k].cpu.sibling &&
                         class_of(&c[j].cpu) == class_of(&c[k].cpu);
        k++;
    }
    qsort(c, k, sizeof *c, by_rank);
    for (uint32_t i = 0; i < n; i++)
        out[i] = c[i % k].cpu;
    mem_free(c);
    return 0;
}
