/* cli_cache.c: `watt cache`: what lies in the folder of prepared weights, whether it is sound, and
 * removing it. */
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "applications/cli.h"
#include "applications/model_args.h"
#include "applications/progress.h"
#include "base/json.h"
#include "chips/cpu/weights_cache.h"

struct cache_opts {
    const char *folder;
    bool        json;
};

static const struct cli_opt options[] = {
    { "folder", 0, CLI_FILE, offsetof(struct cache_opts, folder), "DIR",
      "the folder (default: $WATT_CACHE/weights)", 0, 0 },
    { "json", 0, CLI_FLAG, offsetof(struct cache_opts, json), NULL, "one JSON object per file", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

struct listing {
    const char *folder;
    bool        json, clear;
    uint64_t    bytes;
    unsigned    n, n_damaged;
    struct err  e;
};

static void print_json(const struct weights_cache_entry *entry)
{
    json_t *o = json_pack("{s:s,s:s,s:I,s:I,s:b}", "file", entry->file, "model", entry->name,
                          "bytes", (json_int_t)entry->bytes, "used", (json_int_t)entry->used_s,
                          "sound", entry->sound);

    if (o)      /* a name that is no UTF-8 has no JSON */
        (void)json_dumpf(o, stdout, JSON_COMPACT);
    else
        (void)printf("{\"file\":\"%s\",\"bytes\":%" PRIu64 ",\"sound\":%s}", entry->file,
                     entry->bytes, entry->sound ? "true" : "false");
    (void)putchar('\n');
    json_decref(o);
}

static void print_line(const struct weights_cache_entry *entry)
{
    const time_t used = (time_t)entry->used_s;
    char size[32], day[32] = "?";
    struct tm tm;

    if (localtime_r(&used, &tm))
        (void)strftime(day, sizeof day, "%Y-%m-%d %H:%M", &tm);
    (void)printf("%s  %10s  %s  %-7s  %s\n", entry->file, format_bytes(size, entry->bytes), day,
                 entry->sound ? "sound" : "damaged", entry->name);
}

static int each(void *ctx, const struct weights_cache_entry *entry)
{
    struct listing *l = ctx;

    l->n++;
    l->bytes += entry->bytes;
    l->n_damaged += !entry->sound;
    if (l->clear)
        return weights_cache_remove(l->folder, entry->file, &l->e);
    if (l->json)
        print_json(entry);
    else
        print_line(entry);
    return cli_interrupted();
}

static int list(const struct cli *c, struct listing *l, bool verify)
{
    char size[32];
    int rc = weights_cache_list(l->folder, verify, each, l, &l->e);

    if (rc < 0 || l->e.code < 0)
        return cli_fail(c, &l->e);
    if (l->clear)
        cli_note(c, "removed %u files, %s", l->n, format_bytes(size, l->bytes));
    else if (!l->json && l->n == 0)
        cli_note(c, "%s holds no prepared weights", l->folder);
    return verify && l->n_damaged > 0 ? CLI_FAILURE : CLI_OK;
}

static int run(const struct cli *c, const void *options_struct)
{
    const struct cache_opts *o = options_struct;
    const char *action = c->n_args > 0 ? c->args[0] : "list";
    char buf[4096];
    struct listing l = { .folder = o->folder, .json = o->json,
                         .clear = strcmp(action, "clear") == 0 };
    const bool verify = strcmp(action, "verify") == 0, removes = strcmp(action, "remove") == 0;

    if (!l.folder)
        l.folder = weights_cache_folder(buf, sizeof buf);
    if (!l.folder)
        return cli_usage(c, "name the folder by --folder, or set WATT_CACHE");
    if (!verify && !removes && !l.clear && strcmp(action, "list") != 0)
        return cli_usage(c, "'%s' is not list, verify, remove or clear", action);
    if (removes != (c->n_args > 1))
        return cli_usage(c, removes ? "remove which file?" : "'%s' takes no file", action);
    cli_catch_interrupt();
    if (!removes)
        return list(c, &l, verify);
    return weights_cache_remove(l.folder, c->args[1], &l.e) < 0 ? cli_fail(c, &l.e) : CLI_OK;
}

const struct cli_verb verb_cache = {
    .name = "cache",
    .summary = "list, check or remove prepared weights kept on disk",
    .usage = "[list | verify | remove FILE | clear]",
    .about = "Verbs that run a model keep its prepared weights in a folder when --weights-cache or "
             "$WATT_CACHE names one, and map them at the next start. `list` shows the files, latest "
             "use first, with a check of some of their bytes; `verify` checks all of them, and fails "
             "when one is damaged. Damaged and stale files are also found, and made again, when they "
             "are used.",
    .examples = "watt cache\n"
                "watt cache verify --folder /var/cache/watt/weights\n"
                "watt cache clear",
    .options = options,
    .options_size = sizeof(struct cache_opts),
    .min_args = 0,
    .max_args = 2,
    .run = run,
};
