/* model_args.c: option values that several verbs share; see model_args.h. */
#include "applications/model_args.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "chips/cpu/features.h"

/* No feature has this bit: it makes "ref", an empty mask, differ from 0, "all". */
#define ISA_CHOSEN 0x80000000u
#define IDS_FILE_MAX ((size_t)256 << 20)

void session_opts_kv(struct session_opts *o, int choice)
{
    static const enum dtype types[] = { DTYPE_F32, DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0 };

    o->kv_set = choice > 0;
    o->k_dtype = o->v_dtype = types[choice];
}

void machine_note(void *cli, const char *text)
{
    cli_note(cli, "%s", text);
}

const char *weights_cache_folder(char *buf, size_t size)
{
    const char *base = getenv("WATT_CACHE");
    const int n = base && *base ? snprintf(buf, size, "%s/weights", base) : -1;

    return n > 0 && (size_t)n < size ? buf : NULL;
}

int session_opts_machine(struct session_opts *o, struct machine_args *a, struct err *e)
{
    int rc = 0;

    if (a->pin && a->no_pin)
        return err_set(e, WATT_EINVAL, "--pin and --no-pin contradict each other");
    o->n_threads = (unsigned)a->threads;
    o->pin = a->pin ? TEAM_PIN_CPU : a->no_pin ? TEAM_PIN_NONE : TEAM_PIN_NODE;
    o->lock = a->mlock;
    if (!a->no_weights_cache)
        o->weights_cache = a->weights_cache ? a->weights_cache
                                            : weights_cache_folder(a->folder, sizeof a->folder);
    o->weights_cache_bytes = a->weights_cache_max;
    o->weights_cache_verify = a->weights_cache_verify;
    if (a->cpus) {
        rc = topo_set_parse(&a->set, a->cpus, e);
        o->cpus = &a->set;
    }
    return rc < 0 ? err_prefix(e, "--cpus") : 0;
}

int session_opts_exec(struct session_opts *o, int exec_choice, const char *isa, struct err *e)
{
    o->exec = exec_choice == 0 ? SESSION_EXEC_CPU : SESSION_EXEC_REF;
    if (isa && !cpu_mask_parse(isa, &o->isa_mask))
        return err_set(e, WATT_EINVAL, "unknown instruction set \"%s\": use ref, avx2, avx512, "
                       "avx512vnni, avx512bf16, all, or several joined by +", isa);
    if (isa)
        o->isa_mask |= ISA_CHOSEN;
    return 0;
}

static bool is_list(const char *s)
{
    return *s && s[strspn(s, "0123456789-, \t")] == '\0' && strcmp(s, "-") != 0;
}

static int parse_ids(const char *text, const char *where, int32_t **out, uint32_t *n,
                     struct err *e)
{
    int32_t *ids = NULL;
    uint32_t cap = 0, k = 0;

    for (const char *p = text;;) {
        char *end;
        long v;

        p += strspn(p, ", \t\r\n");
        if (!*p)
            break;
        v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX || !strchr(", \t\r\n", *end)) {
            mem_free(ids);
            return err_set(e, WATT_EFORMAT, "%s: \"%.12s\" at byte %zu is no token id", where, p,
                           (size_t)(p - text));
        }
        if (k == cap) {
            int32_t *bigger = mem_grow(ids, cap ? cap * 2 : 256, sizeof *ids);

            if (!bigger) {
                mem_free(ids);
                return err_set(e, WATT_ENOMEM, "%s: list of ids", where);
            }
            ids = bigger;
            cap = cap ? cap * 2 : 256;
        }
        ids[k++] = (int32_t)v;
        p = end;
    }
    if (k == 0) {
        mem_free(ids);
        return err_set(e, WATT_EFORMAT, "%s: no token ids", where);
    }
    *out = ids;
    *n = k;
    return 0;
}

int read_ids(const char *arg, int32_t **ids, uint32_t *n, struct err *e)
{
    char *text;
    size_t size;
    int rc;

    if (is_list(arg))
        return parse_ids(arg, "--ids", ids, n, e);
    rc = file_read(arg, IDS_FILE_MAX, &text, &size, e);
    if (rc < 0)
        return rc;
    rc = strlen(text) != size ? err_set(e, WATT_EFORMAT, "%s: a zero byte among ids", arg)
                              : parse_ids(text, arg, ids, n, e);
    mem_free(text);
    return rc;
}

int open_model(const struct cli *c, struct model **out, const char *path, uint32_t n_ctx,
               struct err *e)
{
    const struct model_opts opts = { .warn = machine_note, .ctx = (void *)(uintptr_t)c, .n_ctx = n_ctx };

    return model_open(out, path, &opts, e);
}
