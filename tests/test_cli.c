/* test_cli.c: the command from outside: help, usage errors, exit codes, what goes
 * to which stream, for every verb. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "spawn.h"

static struct spawned r;

#define MAX_VERBS 64
static char verbs[MAX_VERBS][32];
static int n_verbs;

/* The verbs from `watt help`: lines of two spaces and a name below "verbs:". */
static int read_verbs(void **state)
{
    const char *p;

    (void)state;
    spawn(&r, NULL, "help");
    assert_int_equal(r.code, 0);
    p = strstr(r.out, "verbs:\n");
    assert_non_null(p);
    for (p = strchr(p, '\n') + 1; *p == ' '; p = strchr(p, '\n') + 1)
        if (p[2] != ' ' && n_verbs < MAX_VERBS && sscanf(p, " %31s", verbs[n_verbs]) == 1)
            n_verbs++;
    return 0;
}

static void every_verb_has_help(void **state)
{
    (void)state;
    assert_true(n_verbs > 0);
    for (int i = 0; i < n_verbs; i++) {
        char title[64], usage[64];
        static struct spawned other;

        (void)snprintf(title, sizeof title, "watt %.31s: ", verbs[i]);
        (void)snprintf(usage, sizeof usage, "usage: watt %.31s ", verbs[i]);
        spawn(&r, NULL, verbs[i], "--help");
        assert_int_equal(r.code, 0);
        assert_int_equal(strncmp(r.out, title, strlen(title)), 0);
        assert_non_null(strstr(r.out, usage));
        assert_non_null(strstr(r.out, "\noptions:\n"));
        assert_non_null(strstr(r.out, "-h, --help"));
        assert_string_equal(r.err, "");
        spawn(&other, NULL, "help", verbs[i]);
        assert_string_equal(r.out, other.out);
        spawn(&other, NULL, verbs[i], "--no-such-option-as-this", "--help");
        assert_int_equal(other.code, 2);
        spawn(&other, NULL, verbs[i], "-h");
        assert_string_equal(r.out, other.out);
    }
}

/* Options in help start with their names, and lines fit a terminal. */
static void help_fits_the_terminal(void **state)
{
    (void)state;
    for (int i = 0; i < n_verbs; i++) {
        const char *examples, *p;

        spawn(&r, NULL, verbs[i], "--help");
        examples = strstr(r.out, "\nexamples:\n");
        for (p = r.out; *p && (!examples || p < examples); p = strchr(p, '\n') + 1) {
            const size_t bytes = strcspn(p, "\n");
            size_t columns = 0;

            for (size_t j = 0; j < bytes; j++)
                columns += (p[j] & 0xc0) != 0x80;
            if (columns > 100)
                fail_msg("watt %s --help: a line of %zu columns: %.*s", verbs[i], columns, (int)bytes, p);
        }
    }
}

static void unknown_options_are_usage_errors(void **state)
{
    (void)state;
    for (int i = 0; i < n_verbs; i++) {
        spawn(&r, NULL, verbs[i], "--hlep");
        assert_int_equal(r.code, 2);
        assert_one_line(r.err, "unknown option --hlep; did you mean --help?");
        assert_string_equal(r.out, "");
        spawn(&r, NULL, verbs[i], "--zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz=3");
        assert_int_equal(r.code, 2);
        assert_one_line(r.err, verbs[i]);
        spawn(&r, NULL, verbs[i], "-\1");
        assert_int_equal(r.code, 2);
    }
}

static void wrong_command_lines(void **state)
{
    (void)state;
    spawn_to(&r, (char *[]){ (char *)(uintptr_t)"watt", NULL }, NULL, -1);
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "usage: watt"));
    spawn(&r, NULL, "completoin");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "did you mean 'completion'?");
    spawn(&r, NULL, "xyzzy");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "unknown verb 'xyzzy'");
    spawn(&r, NULL, "--frob");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "--frob");
    spawn(&r, NULL, "help", "xyzzy");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "help", "run", "bench");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "completion");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "missing argument");
    spawn(&r, NULL, "completion", "tcsh");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "completion", "bash", "zsh");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "unexpected argument 'zsh'");
}

static void version_is_printed(void **state)
{
    (void)state;
    spawn(&r, NULL, "--version");
    assert_int_equal(r.code, 0);
    assert_one_line(r.out, "watt ");
    spawn(&r, NULL, "-V");
    assert_int_equal(r.code, 0);
}

static void completion_names_every_verb(void **state)
{
    static const char *const shells[] = { "bash", "zsh", "fish" };

    (void)state;
    for (int s = 0; s < 3; s++) {
        spawn(&r, NULL, "completion", (char *)(uintptr_t)shells[s]);
        assert_int_equal(r.code, 0);
        for (int i = 0; i < n_verbs; i++)
            assert_non_null(strstr(r.out, verbs[i]));
    }
}

/* Writes `watt completion WHAT` to a file and runs a program on it. */
static int checked_by(char *what, char *const *checker)
{
    char path[] = "watt-completion-XXXXXX";
    static struct spawned check;
    char *argv[16];
    int fd = mkstemp(path), n = 0;

    assert_true(fd >= 0);
    spawn_to(&r, (char *[]){ (char *)(uintptr_t)"watt", (char *)(uintptr_t)"completion", what, NULL },
             NULL, fd);
    assert_int_equal(r.code, 0);
    for (; checker[n] && n < 14; n++)
        argv[n] = checker[n];
    argv[n] = path;
    argv[n + 1] = NULL;
    spawn_program(&check, argv[0], argv, NULL, -1);
    (void)close(fd);
    (void)unlink(path);
    if (check.code != 0)
        (void)fprintf(stderr, "%s%s", check.out, check.err);
    return check.code;
}

/* The shells that are here must be able to read their script. */
static void completion_is_valid_shell(void **state)
{
    static const struct { const char *name, *path; } shells[] = {
        { "bash", "/bin/bash" }, { "zsh", "/usr/bin/zsh" }, { "fish", "/usr/bin/fish" },
    };
    int checked = 0;

    (void)state;
    for (int s = 0; s < 3; s++) {
        if (access(shells[s].path, X_OK) != 0)
            continue;
        assert_int_equal(checked_by((char *)(uintptr_t)shells[s].name,
                                    (char *[]){ (char *)(uintptr_t)shells[s].path,
                                                (char *)(uintptr_t)"-n", NULL }), 0);
        checked++;
    }
    if (checked == 0)
        skip();
}

static void manual_page_is_clean(void **state)
{
    (void)state;
    spawn(&r, NULL, "completion", "man");
    assert_int_equal(r.code, 0);
    for (int i = 0; i < n_verbs; i++) {
        char section[64];

        (void)snprintf(section, sizeof section, "\n.Ss %.31s\n", verbs[i]);
        assert_non_null(strstr(r.out, section));
    }
    if (access("/usr/bin/mandoc", X_OK) != 0)
        skip();
    assert_int_equal(checked_by((char *)(uintptr_t)"man",
                                (char *[]){ (char *)(uintptr_t)"/usr/bin/mandoc", (char *)(uintptr_t)"-T",
                                            (char *)(uintptr_t)"lint", (char *)(uintptr_t)"-W",
                                            (char *)(uintptr_t)"warning", NULL }), 0);
}

static void full_or_closed_output_is_reported(void **state)
{
    int full = open("/dev/full", O_WRONLY);
    int shut = open("/dev/null", O_RDONLY);     /* as a closed stream looks: writes fail */

    (void)state;
    assert_true(shut >= 0);
    spawn_to(&r, (char *[]){ (char *)(uintptr_t)"watt", (char *)(uintptr_t)"help", NULL }, NULL, shut);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "standard output: ");
    (void)close(shut);
    if (full < 0)
        return;
    for (int i = 0; i < n_verbs; i++) {
        spawn_to(&r, (char *[]){ (char *)(uintptr_t)"watt", verbs[i], (char *)(uintptr_t)"--help", NULL },
                 NULL, full);
        assert_int_equal(r.code, 1);
        assert_one_line(r.err, "No space left on device");
    }
    (void)close(full);
}

/* A limit of file sizes (ulimit -f) is an error like a full disk, and leaves nothing behind. */
static void a_limit_of_file_sizes_is_reported(void **state)
{
    char dir[] = "watt-limit-XXXXXX", path[64];
    struct rlimit old, low;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/model.gguf", dir);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 64 << 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    spawn(&r, NULL, "synth", "qwen3-0.6b", path);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "model.gguf: cannot write: File too large");
    assert_int_equal(rmdir(dir), 0);
}

/* Verbs whose first argument is a model or a file. */
static void bad_files_are_one_line(void **state)
{
    static const struct { const char *verb, *extra1, *extra2; } takes_model[] = {
        { "run", NULL, NULL }, { "inspect", NULL, NULL }, { "tokenize", "hello", NULL },
        { "bench", NULL, NULL }, { "logits", "--ids", "1,2" }, { "quantize", "x-unwritten.gguf", "Q8_0" },
    };
    char dir[] = "watt-cli-XXXXXX", bad[64], secret[64];
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(bad, sizeof bad, "%s/bad.gguf", dir);
    (void)snprintf(secret, sizeof secret, "%s/secret.gguf", dir);
    f = fopen(bad, "w");
    assert_non_null(f);
    (void)fputs("this is no model", f);
    (void)fclose(f);
    f = fopen(secret, "w");
    assert_non_null(f);
    (void)fclose(f);
    assert_int_equal(chmod(secret, 0), 0);
    for (size_t v = 0; v < sizeof takes_model / sizeof *takes_model; v++) {
        const char *files[4] = { "no-such-file.gguf", dir, bad, secret };
        int known = 0;

        for (int i = 0; i < n_verbs; i++)
            known |= strcmp(verbs[i], takes_model[v].verb) == 0;
        if (!known)
            continue;
        for (int i = 0; i < (geteuid() == 0 ? 3 : 4); i++) {     /* root can read all files */
            spawn_to(&r, (char *[]){ (char *)(uintptr_t)"watt", (char *)(uintptr_t)takes_model[v].verb,
                                     (char *)(uintptr_t)files[i], (char *)(uintptr_t)takes_model[v].extra1,
                                     (char *)(uintptr_t)takes_model[v].extra2, NULL }, NULL, -1);
            if (r.code != 1)
                fail_msg("watt %s %s: exit code %d, wanted 1: %s", takes_model[v].verb, files[i], r.code,
                         r.err);
            assert_one_line(r.err, files[i]);
            assert_string_equal(r.out, "");
        }
    }
    assert_int_not_equal(access("x-unwritten.gguf", F_OK), 0);
    (void)unlink(bad);
    (void)unlink(secret);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_has_help),
        cmocka_unit_test(help_fits_the_terminal),
        cmocka_unit_test(unknown_options_are_usage_errors),
        cmocka_unit_test(wrong_command_lines),
        cmocka_unit_test(version_is_printed),
        cmocka_unit_test(completion_names_every_verb),
        cmocka_unit_test(completion_is_valid_shell),
        cmocka_unit_test(manual_page_is_clean),
        cmocka_unit_test(full_or_closed_output_is_reported),
        cmocka_unit_test(a_limit_of_file_sizes_is_reported),
        cmocka_unit_test(bad_files_are_one_line),
    };

    if (access(watt_bin(), X_OK) != 0) {
        (void)fprintf(stderr, "skipped: no executable at %s; set WATT_BIN\n", watt_bin());
        return 77;
    }
    return cmocka_run_group_tests_name("cli", tests, read_verbs, NULL);
}
