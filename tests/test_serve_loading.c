/* test_serve_loading.c: a server whose first model is still being loaded: who looks after it is told so,
 * everybody else is asked to come back; it may be ended, and is ready when it says so, not before.
 *
 * A model without a chat template makes the command say a word on standard error while it loads. Where
 * that is a full pipe it waits there until somebody reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/un.h>

#include "serve_json.h"

static struct held {
    struct server srv;
    int out, err;               /* ends of its pipes that are ours */
    int notices;                /* what it tells systemd */
} held;

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof to;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&to, &len), 0);
    (void)close(fd);
    return ntohs(to.sin_port);
}

static void fill(int fd)
{
    static const char zeros[4096];
    const int flags = fcntl(fd, F_GETFL);

    assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    while (write(fd, zeros, 1) > 0)
        ;
    assert_int_equal(fcntl(fd, F_SETFL, flags), 0);     /* for the server it blocks */
}

static bool can_dial(uint16_t port)
{
    const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const bool ok = connect(fd, (const struct sockaddr *)&to, sizeof to) == 0;

    (void)close(fd);
    return ok;
}

/* Starts it and comes back while it loads. */
static void begin(void)
{
    char port[16], name[64];
    const char *const argv[] = { "watt", "serve", bare_path, "--name", "bare", "--port", port, "--meter",
                                 "none", "--threads", "1", NULL };
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int out[2], err[2];

    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(err), 0);
    fill(err[1]);
    (void)snprintf(name, sizeof name, "@watt-test-%d", (int)getpid());
    memcpy(to.sun_path + 1, name + 1, strlen(name) - 1);        /* an abstract name: no file */
    held.notices = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(held.notices, (const struct sockaddr *)&to,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))), 0);
    held.srv.port = free_port();
    (void)snprintf(port, sizeof port, "%u", held.srv.port);
    held.srv.pid = fork();
    assert_true(held.srv.pid >= 0);
    if (held.srv.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)setenv("NOTIFY_SOCKET", name, 1);
        (void)setenv("WATT_STORE", tiny_dir, 0);
        (void)dup2(out[1], 1);
        (void)dup2(err[1], 2);
        (void)execv(watt_bin(), (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    (void)close(out[1]);
    (void)close(err[1]);
    held.out = out[0];
    held.err = err[0];
    for (int i = 0; !can_dial(held.srv.port); i++) {
        assert_true(i < 6000 && waitpid(held.srv.pid, NULL, WNOHANG) == 0);
        (void)poll(NULL, 0, 10);
    }
}

/* Reads what it says until it ends or says nothing for a while. */
static void let_go_on(void)
{
    char junk[4096];
    struct pollfd p = { held.err, POLLIN, 0 };

    while (poll(&p, 1, 500) > 0 && read(held.err, junk, sizeof junk) > 0)
        ;
}

static int end(void)
{
    int status;

    (void)close(held.out);
    (void)close(held.notices);
    assert_int_equal(waitpid(held.srv.pid, &status, 0), held.srv.pid);
    (void)close(held.err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool has_said(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };

    return poll(&p, 1, 0) > 0;
}

static int get(const char *path)
{
    return ask(&held.srv, "GET", path, "", "");
}

static int send_to(const char *path, const char *body)
{
    return ask(&held.srv, "POST", path, "Content-Type: application/json\r\n", body);
}

static void answers_while_it_loads(void **state)
{
    static const char *const waits[] = { "/health", "/v1/health", "/ready", "/readyz", "/ping" };
    static const char *const lives[] = { "/healthz", "/livez", "/version", "/metrics", "/load",
                                         "/openapi.json", "/v1/models", "/api/ps" };
    static const struct wrong asks[] = {
        { "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", 503,
          "\"code\":\"loading_model\"" },
        { "/v1/embeddings", "{\"input\":\"a\"}", 503, "Loading model" },
        { "/v1/messages", "{}", 503, "overloaded_error" },
        { "/api/chat", "{\"messages\":[]}", 503, "{\"error\":\"Loading model\"" },
        { "/completion", "not even JSON", 503, "Loading model" },
        { "/models/load", "{\"model\":\"bare\"}", 503, "Loading model" },
    };
    char line[128] = "", notice[64] = "";
    json_t *j;

    (void)state;
    begin();
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        assert_int_equal(get(waits[i]), 503);
        assert_non_null(strcasestr(head, "\r\nRetry-After: "));
        j = parsed();
        assert_int_equal(int_at(j, "error.code"), 503);
        assert_string_equal(text_at(j, "error.message"), "Loading model");
        assert_string_equal(text_at(j, "error.type"), "unavailable_error");
        json_decref(j);
    }
    for (size_t i = 0; i < sizeof lives / sizeof *lives; i++)
        if (get(lives[i]) != 200)
            fail_msg("%s: %s", lives[i], answer);
    assert_int_equal(get("/v1/models"), 200);
    assert_non_null(strstr(answer, "\"loading\""));
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        if (send_to(asks[i].path, asks[i].body) != asks[i].status || !strstr(answer, asks[i].needle))
            fail_msg("%s: %s", asks[i].path, answer);
        assert_non_null(strcasestr(head, "\r\nRetry-After: "));
    }
    assert_int_equal(get("/no/such/path"), 404);
    assert_false(has_said(held.out));                   /* not ready, and not said to be */
    assert_false(has_said(held.notices));
    let_go_on();
    for (size_t n = 0; n + 1 < sizeof line && !strchr(line, '\n'); n++)
        assert_int_equal(read(held.out, line + n, 1), 1);
    assert_non_null(strstr(line, "http://127.0.0.1:"));
    let_go_on();
    assert_true(recv(held.notices, notice, sizeof notice - 1, 0) > 0);
    assert_string_equal(notice, "READY=1");
    assert_int_equal(get("/health"), 200);
    assert_int_equal(send_to("/v1/completions", "{\"prompt\":\"x\",\"max_tokens\":2}"), 200);
    assert_int_equal(kill(held.srv.pid, SIGTERM), 0);
    let_go_on();
    assert_int_equal(end(), 0);
}

/* As it ended before anybody could look on. */
static void may_be_ended(void **state)
{
    static const int signals[] = { SIGTERM, SIGINT };

    (void)state;
    for (int i = 0; i < 2; i++) {
        begin();
        assert_int_equal(get("/health"), 503);
        assert_int_equal(kill(held.srv.pid, signals[i]), 0);
        let_go_on();
        assert_false(has_said(held.notices));
        assert_int_equal(end(), 130);
    }
}

/* Before anything is loaded. */
static void taken_ports_are_errors(void **state)
{
    char port[16], serve[] = "serve", quiet[] = "-q", opt[] = "--port";
    char *argv[] = { serve, serve, tiny_path, quiet, opt, port, NULL };
    struct spawned *r = malloc(sizeof *r);
    struct server s;

    (void)state;
    assert_non_null(r);
    start(&s, NULL);
    (void)snprintf(port, sizeof port, "%u", s.port);
    spawn_program(r, watt_bin(), argv, NULL, -1);
    assert_int_equal(r->code, 1);
    assert_non_null(strstr(r->err, port));
    assert_int_equal(stop(&s), 0);
    free(r);
}

static int up(void **state)
{
    (void)signal(SIGPIPE, SIG_IGN);
    return tiny_make(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_while_it_loads),
        cmocka_unit_test(may_be_ended),
        cmocka_unit_test(taken_ports_are_errors),
    };

    return cmocka_run_group_tests_name("serve: loading", tests, up, tiny_remove);
}
