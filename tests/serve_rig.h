/* serve_rig.h: `watt serve` of a tiny model, and a client of it over a plain socket. */
#ifndef TESTS_SERVE_RIG_H
#define TESTS_SERVE_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "spawn.h"
#include "tiny_model.h"

#define ANSWER_MAX (1 << 20)

struct server {
    pid_t    pid;
    uint16_t port;
};

static struct server shared_server;
static char answer[ANSWER_MAX];         /* body of the last answer */
static char head[16384];                /* its status line and headers */
static bool heard_all;                  /* did it come to its end? */

/* argv ends with NULL. */
static inline void start_argv(struct server *s, const char *const *argv)
{
    char line[128] = "";
    size_t len = 0;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);     /* a failed test leaves no server behind */
        (void)setenv("WATT_STORE", tiny_dir, 0);    /* what the user has fetched is no concern of tests */
        (void)dup2(fds[1], 1);
        (void)close(fds[0]);
        (void)close(fds[1]);
        (void)execv(watt_bin(), (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    (void)close(fds[1]);
    while (len + 1 < sizeof line && !strchr(line, '\n')) {
        const ssize_t k = read(fds[0], line + len, 1);

        assert_int_equal(k, 1);
        len++;
    }
    (void)close(fds[0]);
    s->port = (uint16_t)strtol(strrchr(line, ':') + 1, NULL, 10);
    assert_true(s->port > 0);
}

static inline void start(struct server *s, const char *const *more)
{
    const char *argv[32] = { "watt", "serve", tiny_path, "--port", "0", "--quiet", "--name", "tiny",
                             "--threads", "2" };
    size_t n = 10;

    while (more && *more)
        argv[n++] = *more++;
    start_argv(s, argv);
}

static inline int stop(struct server *s)
{
    int status;

    assert_int_equal(kill(s->pid, SIGTERM), 0);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int dial(const struct server *s)
{
    const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(s->port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline void say(int fd, const char *text, size_t n)
{
    while (n > 0) {
        const ssize_t k = send(fd, text, n, MSG_NOSIGNAL);

        if (k <= 0)
            return;                     /* the server has enough of us */
        text += k;
        n -= (size_t)k;
    }
}

/* Until the server closes: status, headers and body, chunks put together. */
static inline int hear(int fd)
{
    static char raw[ANSWER_MAX];
    size_t n = 0, out = 0;
    char *body;

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        ssize_t k;

        assert_int_equal(poll(&p, 1, 120000), 1);
        k = recv(fd, raw + n, sizeof raw - 1 - n, 0);
        if (k <= 0)
            break;
        n += (size_t)k;
        assert_true(n < sizeof raw - 1);
    }
    raw[n] = '\0';
    (void)close(fd);
    head[0] = answer[0] = '\0';
    heard_all = false;
    body = strstr(raw, "\r\n\r\n");
    if (!body)
        return 0;
    *body = '\0';
    body += 4;
    (void)snprintf(head, sizeof head, "%.*s", (int)sizeof head - 1, raw);
    if (!strstr(head, "chunked")) {
        (void)snprintf(answer, sizeof answer, "%s", body);
        heard_all = true;
    } else {
        for (char *p = body;;) {
            const unsigned long size = strtoul(p, &p, 16);

            heard_all = size == 0 && strncmp(p, "\r\n\r\n", 4) == 0;
            if (size == 0 || strncmp(p, "\r\n", 2) != 0 || size > (size_t)(raw + n - p))
                break;                  /* broken off */
            memcpy(answer + out, p + 2, size);
            out += size;
            p += 2 + size + 2;
        }
        answer[out] = '\0';
    }
    return (int)strtol(head + strlen("HTTP/1.1 "), NULL, 10);
}

static inline int ask(const struct server *s, const char *method, const char *path, const char *headers,
               const char *body)
{
    char request[8192];
    const int fd = dial(s);
    const int n = snprintf(request, sizeof request,
                           "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s"
                           "Content-Length: %zu\r\n\r\n", method, path, headers, strlen(body));

    say(fd, request, (size_t)n);
    say(fd, body, strlen(body));
    return hear(fd);
}

static inline int post(const char *path, const char *body)
{
    return ask(&shared_server, "POST", path, "Content-Type: application/json\r\n", body);
}

static inline json_t *parsed(void)
{
    json_t *j = json_loads(answer, JSON_ALLOW_NUL, NULL);

    if (!j)
        fail_msg("no JSON: %s", answer);
    return j;
}

static inline int group_up(void **state)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)tiny_make(state);
    start(&shared_server, NULL);
    return 0;
}

static inline int group_down(void **state)
{
    assert_int_equal(stop(&shared_server), 0);
    (void)tiny_remove(state);
    return 0;
}

#endif
