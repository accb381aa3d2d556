/* test_train_faults.c: `watt train` when things go wrong: killed at its reads and writes (of texts, shards,
 * steps, validations, checkpoints, exports), a full disk, a file size limit, losses that are not finite,
 * data that are damaged, missing or shorter than they were. Each is a clear error, and from the last good
 * checkpoint the run ends with the bytes it would have had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>

#include "base/file.h"
#include "base/mem.h"
#include "remove_tree.h"
#include "spawn.h"

static char dir[] = "test_train_faults.XXXXXX";
static char text[64], want[64], out[64];

static void write_text(const char *to, unsigned lines)
{
    FILE *f = fopen(to, "w");

    assert_non_null(f);
    for (unsigned i = 0; i < lines; i++)
        assert_true(fprintf(f, "the cat sat on the mat %u\n", i % 7) > 0);
    assert_int_equal(fclose(f), 0);
}

/* A shell line; $W is the command, $T the options that every run has. */
static void shell(struct spawned *r, const char *format, ...)
{
    static char line[4096], sh[] = "sh", c[] = "-c";
    char *argv[] = { sh, c, line, NULL };
    int n = snprintf(line, sizeof line, "W=%s; T='--data %s --layers 1 --width 32 --ctx 32 --batch 2 "
                     "--steps 12 --save-every 4 --eval-every 4 --schedule constant --threads 1 "
                     "--meter none --quiet'; D=%s; ", watt_bin(), text, dir);
    va_list ap;

    va_start(ap, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n, format, ap);
    va_end(ap);
    assert_true(n > 0 && (size_t)n < sizeof line);
    spawn_program(r, "/bin/sh", argv, NULL, -1);
}

static int make_dir(void **state)
{
    static struct spawned r;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(text, sizeof text, "%s/t.txt", dir);
    (void)snprintf(want, sizeof want, "%s/want", dir);
    (void)snprintf(out, sizeof out, "%s/out", dir);
    write_text(text, 150);
    shell(&r, "$W train $T %s", want);
    return r.code;
}

static int remove_dir(void **state)
{
    (void)state;
    return remove_tree(dir);
}

static void fresh(void)
{
    static struct spawned r;

    shell(&r, "rm -rf %s", out);
    assert_int_equal(r.code, 0);
}

static void same_file(const char *name)
{
    static struct spawned r;

    shell(&r, "cmp %s/%s %s/%s", want, name, out, name);
    if (r.code != 0)
        fail_msg("%s%s", r.out, r.err);
}

/* What is there goes on to the end that an undisturbed run has, and nothing is left lying about. */
static void goes_on(const char *after)
{
    static struct spawned r;
    struct dirent *d;
    DIR *folder;

    shell(&r, "$W train $T --resume %s", out);
    if (r.code != 0)
        fail_msg("after %s: %s", after, r.err);
    same_file("model.gguf");
    same_file("curve.csv");
    same_file("checkpoint-00000012.gguf");
    folder = opendir(out);
    assert_non_null(folder);
    while ((d = readdir(folder)))
        if (d->d_name[0] != '.' && !strstr(d->d_name, ".gguf") && !strstr(d->d_name, ".shard") &&
            !strstr(d->d_name, "curve."))
            fail_msg("after %s: %s was left", after, d->d_name);
    (void)closedir(folder);
}

#ifdef WATT_FAULTS
/* Killed at the n-th read or write for n = 1, 2, … ever further apart, until a run ends by itself. */
static void killed_at(const char *kind)
{
    static struct spawned r;
    unsigned n_killed = 0;

    for (unsigned n = 1;; n += 1 + n / 2) {
        char what[64];

        fresh();
        (void)snprintf(what, sizeof what, "kill at %s %u", kind, n);
        shell(&r, "export WATT_FAULT_KILL=%s:%u; exec $W train $T %s", kind, n, out);
        if (r.code == 0)
            break;
        assert_int_equal(r.code, 128 + SIGKILL);
        n_killed++;
        goes_on(what);
    }
    assert_true(n_killed >= 5);
}

static void test_killed(void **state)
{
    (void)state;
    killed_at("read");
    killed_at("write");
}
#endif

/* A disk that fills up, in a mount of this process alone; where none can be made, a limit of file sizes. */
static void test_full_disk(void **state)
{
    static struct spawned r;

    (void)state;
    fresh();
    shell(&r, "mkdir %s && unshare -m sh -c \"mount -t tmpfs -o size=300k none %s\"", out, out);
    if (r.code == 0) {
        shell(&r, "unshare -m sh -c \"mount -t tmpfs -o size=700k none %s && $W train $T --keep 0 %s; "
                  "echo code \\$?; ls %s; "
                  "mount -o remount,size=20m %s && "
                  "$W train $T --resume %s && cp %s/model.gguf $D/full.gguf\"",
              out, out, out, out, out, out);
        if (r.code != 0 || !strstr(r.out, "code 1\n") || !strstr(r.out, "checkpoint-"))
            fail_msg("%s%s", r.out, r.err);
        assert_one_line(r.err, "No space left on device");
        shell(&r, "cmp %s/model.gguf $D/full.gguf", want);
        assert_int_equal(r.code, 0);
    }
    for (unsigned blocks = 20; blocks <= 320; blocks *= 4) {    /* of 512 bytes */
        char what[64];

        fresh();
        (void)snprintf(what, sizeof what, "a limit of %u blocks", blocks);
        shell(&r, "trap '' XFSZ; ulimit -f %u; $W train $T %s", blocks, out);
        assert_int_equal(r.code, 1);
        assert_one_line(r.err, "File too large");
        goes_on(what);
    }
}

/* The run ends at the step; the checkpoints before are good. */
static void test_not_finite(void **state)
{
    static struct spawned r;

    (void)state;
    fresh();
    shell(&r, "$W train $T --steps 4 %s", out);
    assert_int_equal(r.code, 0);
    shell(&r, "$W train $T --resume --lr 1000 --weight-decay 1000 --clip 0 --save-every 0 --eval-every 0 %s", out);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "not finite");
    assert_non_null(strstr(r.err, "step "));
    goes_on("a loss that is not finite");
}

static void test_data(void **state)
{
    static struct spawned r;

    (void)state;
    fresh();
    shell(&r, "$W train $T --steps 4 %s && mv %s %s.away", out, text, text);
    assert_int_equal(r.code, 0);
    goes_on("a text that is no more, but was tokenized");
    fresh();
    shell(&r, "$W train $T %s", out);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, text);
    shell(&r, "cp %s.away %s; $W train $T --steps 4 %s", text, text, out);
    assert_int_equal(r.code, 0);
    /* shorter than it was */
    shell(&r, "head -c 3000 %s.away > %s", text, text);
    shell(&r, "$W train $T --resume %s", out);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "other data");
    shell(&r, "mv %s.away %s && touch %s", text, text, text);
    assert_int_equal(r.code, 0);
    goes_on("data that were away");
}

/* One of ours that is damaged is made again; one that was given is an error. */
static void test_shards(void **state)
{
    static struct spawned r;

    (void)state;
    fresh();
    shell(&r, "$W train $T --steps 4 %s && cp %s/data-*.shard $D/given.shard && "
              "for f in %s/data-*.shard $D/given.shard; do "
              "printf 'x' | dd of=$f bs=1 seek=400 conv=notrunc 2>/dev/null; done", out, out, out);
    assert_int_equal(r.code, 0);
    shell(&r, "cd . && $W train $T --data $D/given.shard --resume %s", out);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "given.shard");
    goes_on("a damaged shard");
    shell(&r, "head -c 300 $D/given.shard > $D/short.shard; $W train $T --data $D/short.shard $D/o2");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "short.shard");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef WATT_FAULTS
        cmocka_unit_test(test_killed),
#endif
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_shards),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
