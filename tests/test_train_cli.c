/* test_train_cli.c: `watt train` as a person uses it: a run, one that goes on from the checkpoint
 * before a damaged one with the same bytes, a configuration, and what is refused. */
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

#include "base/file.h"
#include "base/mem.h"
#include "remove_tree.h"
#include "spawn.h"

static char dir[] = "test_train_cli.XXXXXX";
static char text[64], conf[64], out[64], again[64], joules[64];

static void write_text(const char *to, const char *line, unsigned times)
{
    FILE *f = fopen(to, "w");

    assert_non_null(f);
    for (unsigned i = 0; i < times; i++)
        assert_true(fprintf(f, "%s %u\n", line, i % 7) > 0);
    assert_int_equal(fclose(f), 0);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(text, sizeof text, "%s/t.txt", dir);
    (void)snprintf(conf, sizeof conf, "%s/c.conf", dir);
    (void)snprintf(out, sizeof out, "%s/out", dir);
    (void)snprintf(again, sizeof again, "%s/again", dir);
    (void)snprintf(joules, sizeof joules, "%s/joules", dir);
    write_text(text, "the cat sat on the mat", 150);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return remove_tree(dir);
}

#define RUN(r, folder, ...)                                                                    \
    spawn(r, NULL, (char[]){ "train" }, (char[]){ "--data" }, text, (char[]){ "--layers" },    \
          (char[]){ "1" }, (char[]){ "--width" }, (char[]){ "32" }, (char[]){ "--ctx" },       \
          (char[]){ "32" }, (char[]){ "--batch" }, (char[]){ "2" }, (char[]){ "--steps" },     \
          (char[]){ "20" }, (char[]){ "--threads" }, (char[]){ "1" }, (char[]){ "--meter" },   \
          (char[]){ "none" }, folder, __VA_ARGS__)

static void same_file(const char *name)
{
    char a_path[128], b_path[128], *a, *b;
    size_t n_a, n_b;
    struct err e;

    (void)snprintf(a_path, sizeof a_path, "%s/%s", out, name);
    (void)snprintf(b_path, sizeof b_path, "%s/%s", again, name);
    assert_int_equal(file_read(a_path, 1 << 26, &a, &n_a, &e), 0);
    assert_int_equal(file_read(b_path, 1 << 26, &b, &n_b, &e), 0);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(a, b, n_a);
    mem_free(a);
    mem_free(b);
}

static void test_run_and_resume(void **state)
{
    static struct spawned r;
    char damaged[128];

    (void)state;
    RUN(&r, out, (char[]){ "--quiet" });
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_non_null(strstr(r.out, "validation"));
    assert_non_null(strstr(r.out, "no joules: "));
    RUN(&r, again, (char[]){ "--quiet" });
    assert_int_equal(r.code, 0);
    RUN(&r, again, (char[]){ "--quiet" });                             /* a used folder, without --resume */
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "--resume");
    (void)snprintf(damaged, sizeof damaged, "%s/checkpoint-00000020.gguf", again);
    assert_int_equal(truncate(damaged, 700), 0);
    RUN(&r, again, (char[]){ "--resume" });
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_one_line(r.err, "taking the one before it");
    same_file("model.gguf");
    same_file("curve.csv");
    same_file("checkpoint-00000020.gguf");
}

/* What describes the model that a run began with may be said again, but not otherwise. */
static void test_other_model(void **state)
{
    static struct spawned r;
    char same[128];

    (void)state;
    (void)snprintf(same, sizeof same, "%s/start.gguf", out);
    RUN(&r, out, (char[]){ "--resume" }, (char[]){ "--tokenizer" }, (char[]){ "bytes" });
    assert_int_equal(r.code, 0);
    RUN(&r, out, (char[]){ "--resume" }, (char[]){ "--tokenizer" }, same, (char[]){ "--name" },
        (char[]){ "llama" });
    assert_int_equal(r.code, 0);
    RUN(&r, out, (char[]){ "--resume" }, (char[]){ "--tokenizer" }, (char[]){ "chars" });
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "a vocabulary of 257 tokens (hash ");
    assert_one_line(r.err, "--tokenizer chars has 18 (");
    RUN(&r, out, (char[]){ "--resume" }, (char[]){ "--name" }, (char[]){ "other" });
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "--name is other");
    RUN(&r, out, (char[]){ "--resume" }, (char[]){ "--template" }, text);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "another template");
}

/* Joules in the curve and at the end, and an estimate is called one. */
static void test_joules(void **state)
{
    static struct spawned r;
    char *csv, path[128];
    size_t n;
    struct err e;

    (void)state;
    RUN(&r, joules, (char[]){ "--meter" }, (char[]){ "estimate" }, (char[]){ "--estimate" },
        (char[]){ "idle=10,op=5,byte=5" });
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_non_null(strstr(r.out, "J/token (estimate)"));
    assert_non_null(strstr(r.out, "J by estimate, "));
    (void)snprintf(path, sizeof path, "%s/curve.csv", joules);
    assert_int_equal(file_read(path, 1 << 20, &csv, &n, &e), 0);
    assert_non_null(strstr(csv, "joules_estimate,joules_per_token_estimate"));
    assert_null(strstr(csv, ",\n"));    /* every point has them */
    mem_free(csv);
}

static void test_refused(void **state)
{
    static struct spawned r;
    char missing[] = "no-such-file.txt", large[128];

    (void)state;
    spawn(&r, NULL, (char[]){ "train" }, (char[]){ "--data" }, missing, (char[]){ "--prepare-only" },
          out);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, missing);
    spawn(&r, NULL, (char[]){ "train" }, out);
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "--data");
    write_text(conf, "steps = many #", 1);
    spawn(&r, NULL, (char[]){ "train" }, (char[]){ "--data" }, text, (char[]){ "--config" }, conf,
          again);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "line 1");
    write_text(conf, "\xEF\xBB\xBFsteps = 2\nsteps = 3\n#", 1);
    spawn(&r, NULL, (char[]){ "train" }, (char[]){ "--data" }, text, (char[]){ "--config" }, conf,
          again);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "line 2: steps stands there twice");
    spawn(&r, NULL, (char[]){ "train" }, (char[]){ "--data" }, text, (char[]){ "--model" }, missing,
          (char[]){ "--heads" }, (char[]){ "4" }, again);
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "--model brings its shape");
    (void)snprintf(large, sizeof large, "%s-large", out);
    /* more memory than there is: nothing is written */
    spawn(&r, NULL, (char[]){ "train" }, (char[]){ "--data" }, text, (char[]){ "--width" },
          (char[]){ "131072" }, (char[]){ "--layers" }, (char[]){ "256" }, large);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "the machine has");
    assert_int_equal(rmdir(large), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_and_resume),
        cmocka_unit_test(test_other_model),
        cmocka_unit_test(test_joules),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
