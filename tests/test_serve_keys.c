/* test_serve_keys.c: API keys: their file, scopes, rates, and a server that reads them again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "applications/api_keys.h"
#include "serve_rig.h"

#define SECOND UINT64_C(1000000000)

static char key_path[512];

static int make_path(void **state)
{
    const char *tmp = getenv("TMPDIR");
    int fd;

    (void)state;
    (void)snprintf(key_path, sizeof key_path, "%s/watt-keys.XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    fd = mkstemp(key_path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(key_path);
}

/* Lines of "KEY options"; a KEY beginning with '!' stands as it is, not as its hash. */
static void write_keys(const char *const *lines, size_t n)
{
    FILE *f = fopen(key_path, "w");

    assert_non_null(f);
    for (size_t i = 0; i < n; i++) {
        const char *options = strchr(lines[i], ' ');
        char hash[API_KEY_HASH_BYTES], key[128];

        (void)snprintf(key, sizeof key, "%.*s",
                       (int)(options ? options - lines[i] : (ptrdiff_t)strlen(lines[i])), lines[i]);
        api_key_hash(key, hash);
        (void)fprintf(f, "%s%s\n", *key == '!' ? key + 1 : hash, options ? options : "");
    }
    assert_int_equal(fclose(f), 0);
}

static struct api_keys *keys_of(const char *line)
{
    struct api_keys *k;
    struct err e;

    write_keys(&line, 1);
    assert_int_equal(api_keys_open(&k, &e), 0);
    if (api_keys_read(k, key_path, &e) < 0)
        fail_msg("%s", e.msg);
    return k;
}

static void lines_are_checked(void **state)
{
    static const struct { const char *line, *needle; } cases[] = {
        { "!abc", "line 1: expected a SHA-256" },
        { "a rpm=0", "rpm" }, { "a rpm=x", "'x'" }, { "a tpm=", "tpm" },
        { "a concurrent=99999999999999999999", "concurrent" },
        { "a priority=101", "from -100 to 100" },
        { "a scopes=infer,root", "'root'" },
        { "a colour=blue", "'colour'" },
        { "a # all that follows is a comment", NULL },
        { "a tokens_day=0", "tokens_day" }, { "a joules_day=", "joules_day" },
        { "a money_day=nan", "'nan'" }, { "a tokens_day=1e6 joules_day=5e5 money_day=1.50", NULL },
        { "a name=x scopes=all models=a,b rpm=1 tpm=2 concurrent=3 priority=-4", NULL },
        { "! # nothing", "no keys" },
    };
    struct api_keys *k;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc;

        write_keys(&cases[i].line, 1);
        assert_int_equal(api_keys_open(&k, &e), 0);
        rc = api_keys_read(k, key_path, &e);
        assert_int_equal(api_keys_count(k), rc == 0);
        if (cases[i].needle ? rc == 0 || !strstr(e.msg, cases[i].needle) : rc < 0)
            fail_msg("%s: %d %s", cases[i].line, rc, rc < 0 ? e.msg : "");
        api_keys_close(k);
    }
    write_keys((const char *const[]){ "a", "b", "a" }, 3);
    assert_int_equal(api_keys_open(&k, &e), 0);
    assert_int_equal(api_keys_read(k, key_path, &e), WATT_EFORMAT);
    assert_non_null(strstr(e.msg, "twice"));
    api_keys_close(k);
}

static void buckets_hold_a_minute(void **state)
{
    struct api_keys *k = keys_of("a rpm=3 tpm=600");
    struct api_key *key = api_keys_find(k, "a");
    struct api_allowance left;
    uint64_t now = 5 * SECOND;

    (void)state;
    assert_non_null(key);
    assert_null(api_keys_find(k, "b"));
    for (uint64_t i = 3; i-- > 0;) {
        assert_int_equal(api_key_enter(key, now, &left), API_ENTERS);
        assert_int_equal(left.left_requests, i);
        api_key_leave(key);
    }
    assert_int_equal(api_key_enter(key, now, &left), API_OVER_REQUESTS);
    assert_in_range(left.retry_ms, 20000, 20001);
    now += 20 * SECOND + SECOND / 1000;
    assert_int_equal(api_key_enter(key, now, &left), API_ENTERS);
    api_key_spend(key, now, 1000);              /* 400 more than there are */
    api_key_leave(key);
    now += 39 * SECOND;
    assert_int_equal(api_key_enter(key, now, &left), API_OVER_TOKENS);
    assert_in_range(left.retry_ms, 1000, 1201);
    assert_int_equal(left.limit_tokens, 600);
    now += 2 * SECOND;
    assert_int_equal(api_key_enter(key, now, &left), API_ENTERS);
    api_key_leave(key);
    api_key_release(key);
    api_keys_close(k);
}

static void what_a_key_may(void **state)
{
    struct api_keys *k = keys_of("a name=alice scopes=embed,admin models=x,why concurrent=1 "
                                 "priority=5");
    struct api_key *key = api_keys_find(k, "a");
    struct api_allowance left;
    char name[API_KEY_NAME_BYTES];

    (void)state;
    api_key_name(key, name);
    assert_string_equal(name, "alice");
    assert_false(api_key_may(key, API_INFER));
    assert_false(api_key_may(key, API_METRICS));
    assert_true(api_key_may(key, API_EMBED) && api_key_may(key, API_ADMIN));
    assert_true(api_key_may(key, API_OPEN) && api_key_may(NULL, API_ADMIN));
    assert_true(api_key_may_use(key, "x") && api_key_may_use(key, "why"));
    assert_false(api_key_may_use(key, "wh"));
    assert_false(api_key_may_use(key, "x,why"));
    assert_int_equal(api_key_priority(key, 3), 5);
    assert_int_equal(api_key_priority(key, -3), 2);
    assert_int_equal(api_key_priority(NULL, 3), 3);
    assert_true(api_key_account(key) != 0 && api_key_account(NULL) == 0);
    assert_int_equal(api_key_enter(key, 1, &left), API_ENTERS);
    assert_int_equal(api_key_enter(key, 1, &left), API_OVER_CONCURRENT);
    api_key_leave(key);
    assert_int_equal(api_key_enter(key, 1, &left), API_ENTERS);
    api_key_leave(key);
    api_key_release(key);
    api_keys_close(k);
}

/* What was used stays used; a key that goes lets its requests finish. */
static void read_again(void **state)
{
    struct api_keys *k = keys_of("a rpm=1");
    struct api_key *key = api_keys_find(k, "a"), *gone;
    struct api_allowance left;
    const char *again[] = { "b", "a rpm=2" }, *bad = "a rpm=x", *without = "b";
    struct err e;

    (void)state;
    assert_int_equal(api_keys_add(k, "clear", &e), 0);
    assert_int_equal(api_key_enter(key, SECOND, &left), API_ENTERS);
    write_keys(again, 2);
    assert_int_equal(api_keys_read(k, key_path, &e), 0);
    assert_int_equal(api_keys_count(k), 3);
    assert_int_equal(api_key_enter(key, SECOND, &left), API_OVER_REQUESTS);
    assert_int_equal(left.limit_requests, 2);
    write_keys(&bad, 1);
    assert_int_equal(api_keys_read(k, key_path, &e), WATT_EFORMAT);
    assert_int_equal(api_keys_count(k), 3);
    write_keys(&without, 1);
    assert_int_equal(api_keys_read(k, key_path, &e), 0);
    assert_null(api_keys_find(k, "a"));
    gone = api_keys_find(k, "clear");
    assert_non_null(gone);
    assert_true(api_key_may(gone, API_ADMIN));
    api_key_release(gone);
    api_key_leave(key);
    api_key_release(key);
    api_keys_close(k);
}

/* ---- over HTTP ---- */

static int complete(const struct server *s, const char *path, const char *key)
{
    char headers[128];

    (void)snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", key);
    return ask(s, "POST", path, headers, "{\"prompt\":\"a\",\"max_tokens\":4,\"messages\":"
               "[{\"role\":\"user\",\"content\":\"a\"}]}");
}

static void a_server_keeps_them(void **state)
{
    static const char *const lines[] = { "few rpm=2", "short tpm=10", "look scopes=metrics",
                                         "other models=gpt-5" };
    static const char *const fewer[] = { "look scopes=all" };
    const char *more[] = { "--api-keys", key_path, NULL };
    struct server s;
    int status = 0;

    (void)state;
    write_keys(lines, 4);
    start(&s, more);
    assert_int_equal(complete(&s, "/v1/completions", "few"), 200);
    assert_non_null(strstr(head, "x-ratelimit-limit-requests: 2"));
    assert_non_null(strstr(head, "x-ratelimit-remaining-requests: 1"));
    assert_int_equal(complete(&s, "/v1/messages", "few"), 200);
    assert_non_null(strstr(head, "anthropic-ratelimit-requests-remaining: 0"));
    assert_int_equal(complete(&s, "/v1/completions", "few"), 429);
    assert_non_null(strstr(head, "Retry-After: "));
    assert_non_null(strstr(answer, "\"code\":\"rate_limit_exceeded\""));
    assert_int_equal(complete(&s, "/v1/messages", "few"), 429);
    assert_non_null(strstr(answer, "\"type\":\"rate_limit_error\""));
    assert_non_null(strstr(answer, "{\"type\":\"error\""));
    assert_int_equal(complete(&s, "/api/chat", "few"), 429);
    assert_non_null(strstr(answer, "{\"error\":\"This API key may send 2"));
    assert_int_equal(complete(&s, "/v1/chat/completions", "short"), 200);
    assert_int_equal(complete(&s, "/v1/chat/completions", "short"), 429);
    assert_non_null(strstr(answer, "tokens a minute"));
    assert_int_equal(complete(&s, "/v1/completions", "other"), 403);
    assert_int_equal(complete(&s, "/v1/completions", "look"), 403);
    assert_non_null(strstr(answer, "'infer'"));
    assert_int_equal(complete(&s, "/v1/messages", "look"), 403);
    assert_non_null(strstr(answer, "\"permission_error\""));
    assert_int_equal(ask(&s, "GET", "/metrics", "Authorization: Bearer look\r\n", ""), 200);
    write_keys(fewer, 1);
    assert_int_equal(kill(s.pid, SIGHUP), 0);
    for (int i = 0; i < 100 && status != 401; i++) {
        (void)poll(NULL, 0, 50);
        status = complete(&s, "/v1/completions", "few");
    }
    assert_int_equal(status, 401);
    assert_int_equal(complete(&s, "/v1/completions", "look"), 200);
    assert_int_equal(stop(&s), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_checked),
        cmocka_unit_test(buckets_hold_a_minute),
        cmocka_unit_test(what_a_key_may),
        cmocka_unit_test(read_again),
        cmocka_unit_test(a_server_keeps_them),
    };
    int rc;

    (void)signal(SIGPIPE, SIG_IGN);
    if (make_path(NULL) < 0)
        return 1;
    rc = cmocka_run_group_tests_name("serve_keys", tests, tiny_make, tiny_remove);
    (void)remove_path(NULL);
    return rc;
}
