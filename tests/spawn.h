/* spawn.h: runs the watt command that was just built and catches what it says.
 * Include after cmocka.h. $WATT_BIN names the executable; Meson sets it. */
#ifndef TESTS_SPAWN_H
#define TESTS_SPAWN_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWN_MAX_TEXT (1 << 20)

struct spawned {
    int  code;                      /* exit code, or 128 + signal */
    char out[SPAWN_MAX_TEXT], err[SPAWN_MAX_TEXT];  /* NUL-terminated */
    size_t out_len;
};

static inline const char *watt_bin(void)
{
    const char *path = getenv("WATT_BIN");

    return path && *path ? path : "build/watt";
}

static inline size_t spawn_slurp(FILE *f, char *to)
{
    size_t n;

    rewind(f);
    n = fread(to, 1, SPAWN_MAX_TEXT - 1, f);
    to[n] = '\0';
    (void)fclose(f);
    return n;
}

/* Runs path; argv ends with NULL. stdin holds `input`, nothing when NULL. out_fd:
 * instead of catching stdout, -1: catch. */
static inline void spawn_program(struct spawned *r, const char *path, char *const *argv,
                                 const char *input, int out_fd)
{
    FILE *in = tmpfile(), *out = tmpfile(), *err = tmpfile();
    int status = 0;
    pid_t pid;

    assert_non_null(in);
    assert_non_null(out);
    assert_non_null(err);
    if (input)
        assert_int_equal(fwrite(input, 1, strlen(input), in), strlen(input));
    rewind(in);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (dup2(fileno(in), 0) < 0 || dup2(out_fd >= 0 ? out_fd : fileno(out), 1) < 0
            || dup2(fileno(err), 2) < 0)
            _exit(99);
        (void)execv(path, argv);
        _exit(98);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    r->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r->out_len = spawn_slurp(out, r->out);
    (void)spawn_slurp(err, r->err);
    (void)fclose(in);
}

/* The watt command. */
static inline void spawn_to(struct spawned *r, char *const *argv, const char *input, int out_fd)
{
    spawn_program(r, watt_bin(), argv, input, out_fd);
}

/* spawn(&r, "input or NULL", "tokenize", "--ids", …) */
#define spawn(r, input, ...)                                                            \
    spawn_to((r), (char *[]){ (char *)(uintptr_t)"watt", __VA_ARGS__, NULL }, (input), -1)

/* Exactly one line, which names what it should. */
static inline void assert_one_line(const char *text, const char *names)
{
    const char *end = strchr(text, '\n');

    if (!end || end[1] != '\0' || !strstr(text, names))
        fail_msg("wanted one line with '%s', got: %s", names, text);
}

#endif
