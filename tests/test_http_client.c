/* test_http_client.c: requests, streams, ranges, redirects and bounds, against the project's own server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "infrastructure/http.h"
#include "infrastructure/http_client.h"

static struct http_server *server;
static struct http_client *client;
static char url[256];

/* ---- the server ---- */

static void on_request(void *ctx, struct http_exchange *x)
{
    static const char events[] = ": hello\n\ndata: one\n\nevent: b\r\ndata: two\r\ndata: lines\r\n\r\n"
                                 "data: cut";
    const char *path = http_path(x), *range = http_header(x, "Range");
    const char *auth = http_header(x, "Authorization");

    (void)ctx;
    if (strcmp(path, "/echo") == 0) {
        http_reply(x, 200, "text/plain", http_body(x).data, http_body(x).len);
    } else if (strcmp(path, "/method") == 0) {
        http_reply(x, 200, "text/plain", http_method(x), strlen(http_method(x)));
    } else if (strcmp(path, "/auth") == 0) {
        http_reply(x, 200, "text/plain", auth ? auth : "none", auth ? strlen(auth) : 4);
    } else if (strcmp(path, "/redirect") == 0) {
        http_add_header(x, "Location", "/echo");
        http_reply(x, 307, "text/plain", "moved", 5);
    } else if (strcmp(path, "/loop") == 0) {
        http_add_header(x, "Location", "/loop");
        http_reply(x, 302, "text/plain", "", 0);
    } else if (strcmp(path, "/file") == 0) {
        http_add_header(x, "Location", "file:///etc/hostname");
        http_reply(x, 302, "text/plain", "", 0);
    } else if (strcmp(path, "/elsewhere") == 0) {       /* another host by name */
        char to[128];

        (void)snprintf(to, sizeof to, "http://localhost:%u/auth", http_port(server));
        http_add_header(x, "Location", to);
        http_reply(x, 302, "text/plain", "", 0);
    } else if (strcmp(path, "/events") == 0) {
        http_stream(x, 200, "text/event-stream");
        for (size_t i = 0; i < sizeof events - 1; i++)
            (void)http_write(x, events + i, 1);
        http_end(x);
    } else if (strcmp(path, "/part") == 0) {
        http_add_header(x, "Content-Range", "bytes 3-6/10");
        http_add_header(x, "ETag", "\"abc\"");
        http_reply(x, 206, "text/plain", range ? range : "", range ? strlen(range) : 0);
    } else if (strcmp(path, "/busy") == 0) {
        http_add_header(x, "Retry-After", "7");
        http_reply(x, 429, "application/json", "{\"error\":{\"message\":\"later\"}}", 29);
    } else if (strcmp(path, "/silent") == 0) {
        http_stream(x, 200, "text/plain");
        (void)http_write(x, "a", 1);
        (void)usleep(1500000);
        http_end(x);
    } else {
        http_reply(x, 404, "application/json", "{\"error\":\"no such thing\"}", 25);
    }
    http_release(x);
}

static int up(void **state)
{
    const struct http_opts opts = { .handler = { .on_request = on_request }, .n_threads = 2 };
    struct err e = { 0 };

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)unsetenv("http_proxy");
    assert_int_equal(http_open(&server, &opts, &e), 0);
    return http_client_open(&client, NULL, &e);
}

static int down(void **state)
{
    (void)state;
    http_client_close(client);
    http_close(server);
    return 0;
}

static const char *at(const char *path)
{
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u%s", http_port(server), path);
    return url;
}

/* ---- tests ---- */

static void whole_answers(void **state)
{
    struct http_client_request r = { .url = at("/echo"), .body = "{\"a\":1}", .n_body = 7 };
    struct http_client_response a;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_int_equal(a.status, 200);
    assert_string_equal(str_cstr(&a.body), "{\"a\":1}");
    assert_string_equal(a.content_type, "text/plain");
    assert_true(a.length == 7 && a.total_ns > 0 && a.first_byte_ns > 0);
    http_client_response_deinit(&a);
    r.url = at("/redirect");            /* the body goes along */
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(str_cstr(&a.body), "{\"a\":1}");
    http_client_response_deinit(&a);
    r.max_redirects = HTTP_CLIENT_NO_REDIRECTS;
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_int_equal(a.status, 307);
    assert_string_equal(a.location, "/echo");
    http_client_response_deinit(&a);
    r = (struct http_client_request){ .url = at("/method"), .method = "DELETE" };
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(str_cstr(&a.body), "DELETE");
    http_client_response_deinit(&a);
}

static void tokens_stay_with_their_host(void **state)
{
    struct http_client_request r = { .url = at("/auth"), .bearer = "secret" };
    struct http_client_response a;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(str_cstr(&a.body), "Bearer secret");
    http_client_response_deinit(&a);
    r.url = at("/elsewhere");
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(str_cstr(&a.body), "none");
    http_client_response_deinit(&a);
}

struct seen { unsigned n; char text[256]; int stop_at; };

static int on_event(void *ctx, struct sv name, struct sv data)
{
    struct seen *s = ctx;
    const size_t n = strlen(s->text);

    (void)snprintf(s->text + n, sizeof s->text - n, "[%.*s|%.*s]", (int)name.len, name.data,
                   (int)data.len, data.data);
    return (int)++s->n == s->stop_at;
}

static int on_line(void *ctx, struct sv line)
{
    return on_event(ctx, (struct sv){ "", 0 }, line);
}

static void streams(void **state)
{
    struct seen s = { 0 };
    struct http_client_request r = { .url = at("/events"), .on_event = on_event, .ctx = &s };
    struct http_client_response a;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(s.text, "[|one][b|two\nlines]");
    assert_int_equal(a.body.len, 0);
    http_client_response_deinit(&a);
    s = (struct seen){ .stop_at = 1 };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_ECANCEL);
    assert_string_equal(s.text, "[|one]");
    s = (struct seen){ 0 };
    r.on_event = NULL;
    r.on_line = on_line;
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), 0);
    assert_int_equal(s.n, 9);
    r.url = at("/nothing");             /* an error is no part of the stream */
    s = (struct seen){ 0 };
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_int_equal(s.n, 0);
    assert_int_equal(http_client_refused(r.url, &a, &e), WATT_ENOENT);
    assert_non_null(strstr(e.msg, "404: no such thing"));
    http_client_response_deinit(&a);
}

static void ranges_and_headers(void **state)
{
    struct http_client_request r = { .url = at("/part"), .range_first = 3, .range_bytes = 4,
                                     .if_range = "\"abc\"" };
    struct http_client_response a;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_int_equal(a.status, 206);
    assert_string_equal(str_cstr(&a.body), "bytes=3-6");
    assert_true(a.range_first == 3 && a.range_total == 10);
    assert_string_equal(a.etag, "\"abc\"");
    http_client_response_deinit(&a);
    r.range_bytes = UINT64_MAX;
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(str_cstr(&a.body), "bytes=3-");
    http_client_response_deinit(&a);
    r = (struct http_client_request){ .url = at("/busy") };
    assert_int_equal(http_client_fetch(client, &r, &a, &e), 0);
    assert_string_equal(a.retry_after, "7");
    assert_int_equal(http_client_refused(r.url, &a, &e), WATT_EBUSY);
    assert_non_null(strstr(e.msg, "later"));
    http_client_response_deinit(&a);
}

static int say_stop(void *ctx)
{
    (void)ctx;
    return 1;
}

static void bounds_hold(void **state)
{
    static const char *const split[] = { "A: b\r\nHost: evil" };
    struct http_client_request r = { .url = at("/echo"), .body = "0123456789", .n_body = 10,
                                     .max_body = 9 };
    struct err e = { 0 };

    (void)state;
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_ELIMIT);
    r = (struct http_client_request){ .url = at("/loop") };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_EIO);
    r.url = at("/file");
    assert_true(http_client_fetch(client, &r, NULL, &e) < 0);
    r.url = "file:///etc/hostname";
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_EINVAL);
    r.url = "http://127.0.0.1:1/";
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_EIO);
    assert_non_null(strstr(e.msg, "127.0.0.1"));
    r = (struct http_client_request){ .url = at("/echo"), .headers = split, .n_headers = 1 };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_EINVAL);
    r = (struct http_client_request){ .url = at("/echo"), .bearer = "a\nb" };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_EINVAL);
    assert_null(strstr(e.msg, "a\nb"));
    r = (struct http_client_request){ .url = at("/silent"), .total_ms = 300 };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_ETIME);
    r = (struct http_client_request){ .url = at("/silent"), .poll = say_stop };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_ECANCEL);
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%u/echo", http_port(server));
    r = (struct http_client_request){ .url = url, .connect_ms = 60000 };
    assert_int_equal(http_client_fetch(client, &r, NULL, &e), WATT_EIO);
}

struct count { unsigned done, ok; };

static void count_done(void *ctx, int rc, const struct http_client_response *a, const struct err *why)
{
    struct count *c = ctx;

    (void)why;
    c->done++;
    c->ok += rc == 0 && a->status == 200;
}

static void many_at_once(void **state)
{
    struct count n = { 0 };
    const struct http_client_request r = { .url = at("/events"), .on_done = count_done, .ctx = &n };
    struct err e = { 0 };

    (void)state;
    for (int i = 0; i < 32; i++)
        assert_int_equal(http_client_start(client, &r, &e), 0);
    while (http_client_run(client, 1000) > 0)
        ;
    assert_int_equal(n.done, 32);
    assert_int_equal(n.ok, 32);
    assert_int_equal(http_client_start(client, &r, &e), 0);     /* left for close */
}

static void escapes(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 0);
    http_client_escape(&s, SV("a b/c%?\xC3\xA4"), "/");
    assert_string_equal(str_cstr(&s), "a%20b/c%25%3F%C3%A4");
    str_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_answers),
        cmocka_unit_test(tokens_stay_with_their_host),
        cmocka_unit_test(streams),
        cmocka_unit_test(ranges_and_headers),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(escapes),
        cmocka_unit_test(many_at_once),
    };

    return cmocka_run_group_tests(tests, up, down);
}
