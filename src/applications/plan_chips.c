/* plan_chips.c: the planner's table of chips; see plan_chips.h. */
#include "applications/plan_chips.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/team.h"
#include "chips/cpu/peaks.h"

#define FILE_MAX_BYTES ((size_t)1 << 20)

/* Shares of an engine with fused kernels and captured graphs. Taken once from the published rows
 * of Llama 3.1 8B on one H100 (docs/plan.md shows what they give elsewhere). */
#define GPU_SHARES .ops_share = { 0.45, 0.45, 0.45, 0.45, 0.45 }, .attention_share = 0.3, .read_share = 0.7, .kv_share = 0.5, \
                   .link_share = 0.7, .step_s = 1e-3, .instr_s = 2e-6
/* Ours, as docs/performance.md has them. */
#define CPU_SHARES .cpu = true, .ops_share = { 0.75, 0.74, 0.60, 0.60, 0.60 }, .attention_share = 0.5, .read_share = 0.85, \
                   .kv_share = 0.7, .link_share = 0.7, .step_s = 1e-4, .instr_s = 2e-6

#define T 1e12
#define G 1e9
#define NVLINK(bytes) .link_bytes_s = (bytes), .link_latency_s = 4e-6

static const struct plan_chip builtin[] = {
    { .name = "a100-80g", .source = "NVIDIA A100 80GB SXM datasheet", .ops = { 19.5 * T, 312 * T, 624 * T },
      .memory_bytes = 80 * G, .read_bytes_s = 2039 * G, NVLINK(300 * G), .group = 8,
      .idle_w = 60, .max_w = 400, GPU_SHARES },
    { .name = "h100", .source = "NVIDIA H100 SXM datasheet; InferenceX power and price",
      .ops = { 67 * T, 989 * T, 1979 * T, 1979 * T }, .memory_bytes = 80 * G,
      .read_bytes_s = 3350 * G, NVLINK(450 * G), .group = 8, .idle_w = 100, .max_w = 700,
      .all_in_w = 1730, .usd_hour = 1.69, GPU_SHARES },
    { .name = "h200", .source = "NVIDIA H200 SXM datasheet; InferenceX power and price",
      .ops = { 67 * T, 989 * T, 1979 * T, 1979 * T }, .memory_bytes = 141 * G,
      .read_bytes_s = 4800 * G, NVLINK(450 * G), .group = 8, .idle_w = 100, .max_w = 700,
      .all_in_w = 1730, .usd_hour = 1.74, GPU_SHARES },
    { .name = "b200", .source = "NVIDIA HGX B200 datasheet; InferenceX power and price",
      .ops = { 75 * T, 2250 * T, 4500 * T, 4500 * T, 9000 * T }, .memory_bytes = 180 * G,
      .read_bytes_s = 7700 * G, NVLINK(900 * G), .group = 8, .idle_w = 140, .max_w = 1000,
      .all_in_w = 2170, .usd_hour = 2.34, GPU_SHARES },
    { .name = "gb200", .source = "NVIDIA GB200 NVL72 datasheet, of one GPU; InferenceX power and price",
      .ops = { 80 * T, 2500 * T, 5000 * T, 5000 * T, 10000 * T }, .memory_bytes = 186 * G,
      .read_bytes_s = 8000 * G, NVLINK(900 * G), .group = 72, .idle_w = 140, .max_w = 1200,
      .all_in_w = 2100, .usd_hour = 2.75, GPU_SHARES },
    { .name = "gb300", .source = "NVIDIA GB300 NVL72 datasheet, of one GPU; InferenceX power and price",
      .ops = { 80 * T, 2500 * T, 5000 * T, 5000 * T, 15000 * T }, .memory_bytes = 279 * G,
      .read_bytes_s = 8000 * G, NVLINK(900 * G), .group = 72, .idle_w = 140, .max_w = 1400,
      .all_in_w = 2100, .usd_hour = 3.30, GPU_SHARES },
    { .name = "mi300x", .source = "AMD Instinct MI300X datasheet",
      .ops = { 163.4 * T, 1307 * T, 2615 * T, 2615 * T }, .memory_bytes = 192 * G,
      .read_bytes_s = 5300 * G, NVLINK(448 * G), .group = 8, .idle_w = 140, .max_w = 750,
      GPU_SHARES },
    { .name = "mi355x", .source = "AMD Instinct MI355X datasheet; InferenceX power",
      .ops = { 157.3 * T, 2516 * T, 5033 * T, 5033 * T, 10066 * T }, .memory_bytes = 288 * G,
      .read_bytes_s = 8000 * G, NVLINK(538 * G), .group = 8, .idle_w = 160, .max_w = 1400,
      .all_in_w = 2650, GPU_SHARES },
    { .name = "l40s", .source = "NVIDIA L40S datasheet", .ops = { 91.6 * T, 362 * T, 733 * T, 733 * T },
      .memory_bytes = 48 * G, .read_bytes_s = 864 * G, .link_bytes_s = 32 * G,
      .link_latency_s = 1e-5, .group = 8, .idle_w = 35, .max_w = 350, GPU_SHARES },
    { .name = "l4", .source = "NVIDIA L4 datasheet, halved where it states sparsity",
      .ops = { 30.3 * T, 121 * T, 242 * T, 242 * T }, .memory_bytes = 24 * G,
      .read_bytes_s = 300 * G, .link_bytes_s = 16 * G, .link_latency_s = 1e-5, .group = 8,
      .idle_w = 16, .max_w = 72, GPU_SHARES },
    { .name = "rtx-4090", .source = "NVIDIA Ada architecture paper, F32 accumulation",
      .ops = { 82.6 * T, 165 * T, 660 * T, 330 * T }, .memory_bytes = 24 * G,
      .read_bytes_s = 1008 * G, .link_bytes_s = 32 * G, .link_latency_s = 1e-5, .group = 4,
      .idle_w = 20, .max_w = 450, GPU_SHARES },
    { .name = "rtx-5090", .source = "NVIDIA RTX Blackwell architecture paper, F32 accumulation",
      .ops = { 104.8 * T, 209.5 * T, 838 * T, 419 * T, 1676 * T }, .memory_bytes = 32 * G,
      .read_bytes_s = 1792 * G, .link_bytes_s = 64 * G, .link_latency_s = 1e-5, .group = 4,
      .idle_w = 25, .max_w = 575, GPU_SHARES },
    { .name = "epyc-9965", .source = "AMD EPYC 9965: 192 cores at 3.0 GHz, two 512-bit units, 12 x DDR5-6400",
      .ops = { 36.9 * T, 73.7 * T, 147.5 * T }, .memory_bytes = 1152 * G, .read_bytes_s = 614 * G,
      .group = 1, .idle_w = 110, .max_w = 500, CPU_SHARES },
    { .name = "epyc-9654", .source = "AMD EPYC 9654: 96 cores at 3.1 GHz, 512 bits in two halves, 12 x DDR5-4800",
      .ops = { 9.5 * T, 19 * T, 38 * T }, .memory_bytes = 768 * G, .read_bytes_s = 461 * G,
      .group = 1, .idle_w = 90, .max_w = 360, CPU_SHARES },
    { .name = "ryzen-9950x", .source = "AMD Ryzen 9 9950X: 16 cores at 4.7 GHz, two 512-bit units, 2 x DDR5-5600",
      .ops = { 4.8 * T, 9.6 * T, 19.3 * T }, .memory_bytes = 96 * G, .read_bytes_s = 89 * G,
      .group = 1, .idle_w = 25, .max_w = 200, CPU_SHARES },
};

void plan_chips_init(struct plan_chips *t)
{
    *t = (struct plan_chips){ .n = sizeof builtin / sizeof *builtin };
    memcpy(t->v, builtin, sizeof builtin);
}

const struct plan_chip *plan_chips_find(const struct plan_chips *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcasecmp(t->v[i].name, name) == 0)
            return &t->v[i];
    return NULL;
}

const char *plan_ops_name(enum plan_ops t)
{
    static const char *const names[PLAN_N_OPS] = { "f32", "bf16", "int8", "fp8", "fp4" };

    return names[t];
}

/* ---- a file of chips ---- */

struct number { const char *key; size_t offset; double unit, max; };

static const struct number numbers[] = {
    { "memory_gb", offsetof(struct plan_chip, memory_bytes), 1e9, 1e9 },
    { "read_gb_s", offsetof(struct plan_chip, read_bytes_s), 1e9, 1e9 },
    { "link_gb_s", offsetof(struct plan_chip, link_bytes_s), 1e9, 1e9 },
    { "link_latency_us", offsetof(struct plan_chip, link_latency_s), 1e-6, 1e9 },
    { "idle_w", offsetof(struct plan_chip, idle_w), 1, 1e9 },
    { "max_w", offsetof(struct plan_chip, max_w), 1, 1e9 },
    { "all_in_w", offsetof(struct plan_chip, all_in_w), 1, 1e9 },
    { "usd_hour", offsetof(struct plan_chip, usd_hour), 1, 1e9 },
    { "attention_share", offsetof(struct plan_chip, attention_share), 1, 1 },
    { "read_share", offsetof(struct plan_chip, read_share), 1, 1 },
    { "kv_share", offsetof(struct plan_chip, kv_share), 1, 1 },
    { "link_share", offsetof(struct plan_chip, link_share), 1, 1 },
    { "step_us", offsetof(struct plan_chip, step_s), 1e-6, 1e9 },
    { "instr_us", offsetof(struct plan_chip, instr_s), 1e-6, 1e9 },
};

/* A member that is misspelt would silently be the default. */
static bool is_number(const char *key)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(numbers[i].key, key) == 0)
            return true;
    return false;
}

static bool is_member(const char *key)
{
    static const char *const others[] = { "name", "source", "cpu", "group", "tops", "ops_share" };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i], key) == 0)
            return true;
    return is_number(key);
}

static bool is_type(const char *key)
{
    for (int i = 0; i < PLAN_N_OPS; i++)
        if (strcmp(plan_ops_name((enum plan_ops)i), key) == 0)
            return true;
    return false;
}

static int only(const struct json_place *at, bool (*known)(const char *key), struct err *e)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)at->value, key, value)
        if (!known(key))
            return json_refuse(at, e, WATT_EFORMAT, "unknown member '%.60s'", key);
    return 0;
}

static int read_ops(const struct json_place *at, struct plan_chip *c, struct err *e)
{
    struct json_place ops;
    int rc = json_need(at, "tops", &ops, e);

    if (rc == 0)
        rc = only(&ops, is_type, e);
    for (int i = 0; rc == 0 && i < PLAN_N_OPS; i++) {
        rc = json_get_double(&ops, plan_ops_name((enum plan_ops)i), c->ops[i] / 1e12, 0, 1e9,
                             &c->ops[i], e);
        c->ops[i] *= 1e12;
    }
    if (rc == 0 && c->ops[PLAN_F32] <= 0)
        rc = json_refuse(&ops, e, WATT_EFORMAT, "expected f32 above 0: other types fall back to it");
    return rc;
}

/* "ops_share": one number for all types, or {"bf16": 0.5, ...}. */
static int read_ops_share(const struct json_place *at, struct plan_chip *c, struct err *e)
{
    struct json_place share;
    int rc = json_find(at, "ops_share", &share, e);

    if (rc < 0 || !share.value)
        return rc;
    if (json_is_object(share.value))
        rc = only(&share, is_type, e);
    for (int i = 0; rc == 0 && i < PLAN_N_OPS; i++)
        rc = json_is_object(share.value)
                 ? json_get_double(&share, plan_ops_name((enum plan_ops)i), c->ops_share[i], 0, 1,
                                   &c->ops_share[i], e)
                 : json_read_double(&share, 0, 1, &c->ops_share[i], e);
    return rc;
}

static int read_numbers(const struct json_place *at, struct plan_chip *c, struct err *e)
{
    int rc = read_ops_share(at, c, e);
    bool bad = false;

    for (size_t i = 0; rc == 0 && i < sizeof numbers / sizeof *numbers; i++) {
        double *v = (double *)(void *)((char *)c + numbers[i].offset);

        rc = json_get_double(at, numbers[i].key, *v / numbers[i].unit, 0, numbers[i].max, v, e);
        *v *= numbers[i].unit;
    }
    if (rc == 0 && (c->memory_bytes <= 0 || c->read_bytes_s <= 0))
        rc = json_refuse(at, e, WATT_EFORMAT, "expected memory_gb and read_gb_s above 0");
    for (int i = 0; i < PLAN_N_OPS; i++)
        bad |= c->ops_share[i] <= 0;
    if (rc == 0 && (bad || c->attention_share <= 0 || c->read_share <= 0 ||
                    c->kv_share <= 0 || c->link_share <= 0))
        rc = json_refuse(at, e, WATT_EFORMAT, "expected shares above 0, at most 1");
    if (rc == 0 && c->max_w > 0 && c->idle_w > c->max_w)
        rc = json_refuse(at, e, WATT_EFORMAT, "idle_w is %g, expected at most max_w, %g", c->idle_w,
                         c->max_w);
    return rc;
}

static int read_chip(const struct json_place *at, struct plan_chip *c, struct err *e)
{
    static const struct plan_chip gpu = { .group = 1, .link_latency_s = 1e-5, GPU_SHARES };
    static const struct plan_chip cpu = { .group = 1, .link_latency_s = 1e-5, CPU_SHARES };
    const char *name, *source;
    uint64_t group;
    bool is_cpu;
    struct json_place place;
    int rc = json_need(at, "name", &place, e);

    if (rc == 0)
        rc = only(at, is_member, e);
    if (rc == 0)
        rc = json_read_cstr(&place, &name, e);
    if (rc == 0 && (name[0] == '\0' || strlen(name) >= PLAN_NAME_BYTES))
        rc = json_refuse(&place, e, WATT_EFORMAT, "expected 1 to %u bytes", PLAN_NAME_BYTES - 1);
    if (rc == 0)
        rc = json_get_bool(at, "cpu", false, &is_cpu, e);
    if (rc < 0)
        return rc;
    *c = is_cpu ? cpu : gpu;
    rc = json_get_u64(at, "group", 1, 1, 65536, &group, e);
    if (rc == 0)
        rc = json_get_cstr(at, "source", "", &source, e);
    if (rc < 0)
        return rc;
    c->group = (unsigned)group;
    (void)snprintf(c->name, sizeof c->name, "%s", name);
    (void)snprintf(c->source, sizeof c->source, "%s", source);
    rc = read_ops(at, c, e);
    return rc == 0 ? read_numbers(at, c, e) : rc;
}

static int add_all(struct plan_chips *t, const struct json_place *list, struct err *e)
{
    size_t n;
    int rc = json_read_array(list, PLAN_MAX_CHIPS, &n, e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(list, i);

        if (t->n == PLAN_MAX_CHIPS)
            return json_refuse(list, e, WATT_ELIMIT, "more than %u chips with the built-in ones",
                               PLAN_MAX_CHIPS);
        memmove(&t->v[i + 1], &t->v[i], (t->n - i) * sizeof *t->v);
        rc = read_chip(&item, &t->v[i], e);
        t->n++;
    }
    return rc;
}

int plan_chips_parse(struct plan_chips *t, const char *name, const char *bytes, size_t n,
                     struct err *e)
{
    const struct json_limits limits = { FILE_MAX_BYTES, 8 };
    struct plan_chips *grown = mem_alloc(sizeof *grown);
    struct json_place root, list;
    json_t *document = NULL;
    int rc;

    if (!grown)
        return err_set(e, WATT_ENOMEM, "%s: table of chips", name);
    *grown = *t;
    rc = json_parse(&document, name, bytes, n, &limits, e);
    if (rc == 0) {
        root = list = json_root(document, name);
        if (json_is_object(document))
            rc = json_need(&root, "chips", &list, e);
    }
    if (rc == 0)
        rc = add_all(grown, &list, e);
    if (rc == 0)
        *t = *grown;
    json_close(document);
    mem_free(grown);
    return rc;
}

int plan_chips_read(struct plan_chips *t, const char *path, struct err *e)
{
    char *bytes;
    size_t n;
    int rc = file_read(path, FILE_MAX_BYTES, &bytes, &n, e);

    if (rc < 0)
        return rc;
    rc = plan_chips_parse(t, path, bytes, n, e);
    mem_free(bytes);
    return rc;
}

/* ---- the machine at hand ---- */

int plan_chip_this(struct plan_chip *c, unsigned n_threads, struct err *e)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    struct team *team;
    struct peaks k;
    int rc = team_open(&team, n_threads ? n_threads : team_default_threads(), e);

    if (rc < 0)
        return rc;
    rc = peaks_measure(&k, team, CPU_ALL, e);
    *c = (struct plan_chip){ .name = "this", .group = 1, CPU_SHARES };
    if (rc == 0) {
        (void)snprintf(c->source, sizeof c->source, "%.100s, measured with %u threads",
                       cpu_model_name(), team_size(team));
        c->ops[PLAN_F32] = k.f32_ops_s;
        c->ops[PLAN_BF16] = k.bf16_ops_s;
        c->ops[PLAN_INT8] = k.int8_ops_s;
        c->read_bytes_s = k.read_bytes_s;
        c->memory_bytes = pages > 0 && page > 0 ? (double)pages * (double)page : 0;
    }
    team_close(team);
    return rc;
}
