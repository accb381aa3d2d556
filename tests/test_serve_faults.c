/* test_serve_faults.c: a whole server, in a process of its own, in which the n-th allocation fails, for
 * n = 1, 2, … over the life of each kind of request. What comes is the whole answer, or an error that
 * says 503, or nothing at all where not even that could be had; never an answer with a part missing.
 * The server ends with nothing leaked. Every n with --full; without it they come ever further apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "applications/cli_internal.h"
#include "base/fault.h"
#include "serve_rig.h"

#ifdef WATT_FAULTS

/* A pipe to the server: 8 bytes arm, 8 bytes come back with how many were counted since. */
static int control[2];
static struct server srv;
static bool full;

#define HOW_MUCH UINT64_MAX             /* asks for the bytes that are allocated */

static void *obey(void *arg)
{
    const int fd = *(int *)arg;
    uint64_t n;

    while (read(fd, &n, sizeof n) == (ssize_t)sizeof n) {
        n = n == HOW_MUCH ? mallinfo2().uordblks : fault_arm(FAULT_ALLOC, n);
        if (write(fd, &n, sizeof n) != (ssize_t)sizeof n)
            break;
    }
    return NULL;
}

static uint64_t arm(uint64_t n)
{
    assert_int_equal(write(control[0], &n, sizeof n), sizeof n);
    assert_int_equal(read(control[0], &n, sizeof n), sizeof n);
    return n;
}

/* `watt serve` in a child that shares our code, so that its faults are ours to arm. */
static int up(void **state)
{
    static const char *const argv[] = { "watt", "serve", tiny_path, "--port", "0", "--quiet", "--name",
                                        "tiny", "--threads", "1", "--http-threads", "1", "--meter", "none",
                                        NULL };     /* joules would differ from answer to answer */
    char line[128] = "";
    size_t len = 0;
    int fds[2];

    (void)signal(SIGPIPE, SIG_IGN);
    (void)tiny_make(state);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, control), 0);
    srv.pid = fork();
    assert_true(srv.pid >= 0);
    if (srv.pid == 0) {
        pthread_t thread;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(fds[1], 1);
        (void)close(fds[0]);
        (void)close(fds[1]);
        (void)close(control[0]);
        if (pthread_create(&thread, NULL, obey, &control[1]) != 0)
            _exit(127);
        (void)pthread_detach(thread);
        /* leaks are looked for at the exit */
        exit(cli_main((int)(sizeof argv / sizeof *argv) - 1, (char **)(uintptr_t)argv));
    }
    (void)close(fds[1]);
    (void)close(control[1]);
    while (len + 1 < sizeof line && !strchr(line, '\n')) {
        assert_int_equal(read(fds[0], line + len, 1), 1);
        len++;
    }
    (void)close(fds[0]);
    srv.port = (uint16_t)strtol(strrchr(line, ':') + 1, NULL, 10);
    return 0;
}

static int down(void **state)
{
    (void)arm(0);
    assert_int_equal(stop(&srv), 0);
    (void)close(control[0]);
    (void)tiny_remove(state);
    return 0;
}

/* What differs from answer to answer: ids, times, rates. The text up to the value stays. */
static void without_varying(const char *from, char *to)
{
    static const char *const keys[] = {
        "\"id\":\"", "\"item_id\":\"", "\"call_id\":\"", "\"created\":", "\"created_at\":",
        "\"created_at\":\"", "\"completed_at\":", "_ms\":", "_duration\":", "_per_second\":",
        "\"cached_tokens\":", "\"tokens_cached\":", "\"cache_n\":", "\"prompt_n\":",
        "\"prompt_eval_count\":", "\"cache_read_input_tokens\":", "\"input_tokens\":",
        "accepted_prediction_tokens\":", "rejected_prediction_tokens\":",
    };

    while (*from) {
        size_t n = 0;

        for (size_t i = 0; n == 0 && i < sizeof keys / sizeof *keys; i++)
            if (strncmp(from, keys[i], strlen(keys[i])) == 0)
                n = strlen(keys[i]);
        if (strncmp(from, ": still here", 12) == 0) {
            from = strstr(from, "\n\n") + 2;
        } else if (n == 0) {
            *to++ = *from++;
        } else {
            memcpy(to, from, n);
            to += n;
            from += n;
            from += strcspn(from, from[-1] == '"' ? "\"" : ",}");
        }
    }
    *to = '\0';
}

struct counts { unsigned whole, refused, cut, silent; };

static struct counts counted;

/* n = 1, 2, … until the request has no n-th allocation. `%u` in the body is n: what is kept from one
 * request to the next (grammars, prefixes) must not shorten the loop. */
static void torture(const char *method, const char *path, const char *body, unsigned step)
{
    static char reference[ANSWER_MAX], now[ANSWER_MAX];
    char text[4096];
    unsigned n = 1, n_asked = 0;

    (void)arm(0);
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof text, body, 0u);
        if (ask(&srv, method, path, "Content-Type: application/json\r\n", text) != 200)
            fail_msg("%s: %s", path, answer);
    }
    without_varying(answer, reference);
    for (;; n += full ? step : step + n / 16, n_asked++) {
        struct counts *c = &counted;
        int status;

        (void)snprintf(text, sizeof text, body, n);
        (void)arm(n);
        status = ask(&srv, method, path, "Content-Type: application/json\r\n", text);
        if (arm(0) < n)
            break;
        without_varying(answer, now);
        if (status == 0 || !heard_all) {
            c->silent++;
        } else if (status == 200 && strcmp(now, reference) == 0) {
            c->whole++;
        } else if (status == 503 && (strstr(answer, "\"error\"") || strstr(answer, "memory"))) {
            c->refused++;
        } else if (status == 200 && strstr(answer, "error") && strstr(answer, "memory")) {
            c->cut++;
        } else {
            fail_msg("%s: allocation %u: %d\n%s\nin place of\n%s", path, n, status, now, reference);
        }
    }
    (void)snprintf(text, sizeof text, body, 0u);
    assert_int_equal(ask(&srv, method, path, "Content-Type: application/json\r\n", text), 200);
    without_varying(answer, now);
    assert_string_equal(now, reference);
    if (getenv("WATT_VERBOSE"))
        print_message("%s %s: %u allocations, %u requests\n", method, path, n - 1, n_asked);
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"temperature\":0,\"max_tokens\":12"
#define SCHEMA(form) "{\"type\":\"object\",\"properties\":{\"" form "\":{\"type\":\"boolean\"}},\"required\":[]," \
    "\"additionalProperties\":false}"

static void chats(void **state)
{
    (void)state;
    torture("POST", "/v1/chat/completions", "{" HI ",\"n\":2,\"stop\":[\"zz\"],"
            "\"cache_salt\":\"%u\"}", 1);
    torture("POST", "/v1/chat/completions", "{" HI ",\"stream\":true,"
            "\"stream_options\":{\"include_usage\":true},"
            "\"cache_salt\":\"%u\"}", 1);
    torture("POST", "/v1/chat/completions", "{" HI ",\"logprobs\":true,\"top_logprobs\":3,"
            "\"stream\":true}", 1);
    torture("POST", "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"},"
            "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"},{\"type\":"
            "\"refusal\",\"refusal\":\"No.\"}]},{\"role\":\"user\",\"content\":\"Why?\"}],\"temperature\":0,"
            "\"max_tokens\":3,\"thinking\":{\"type\":\"disabled\"},\"logit_bias\":[[\"ab\",-1],[5,false]],"
            "\"samplers\":\"kpt\"}", 1);
    torture("POST", "/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"},"
            "{\"role\":\"assistant\",\"content\":\"Once\"}],\"continue_final_message\":true,"
            "\"temperature\":0,\"max_tokens\":4,\"stream\":true,\"return_progress\":true,"
            "\"timings_per_token\":true,\"return_token_ids\":true,\"cache_prompt\":false}", 1);
}

static void completes(void **state)
{
    (void)state;
    torture("POST", "/v1/completions", "{\"prompt\":\"Once upon\",\"max_tokens\":8,"
            "\"temperature\":0,\"echo\":true,"
            "\"logprobs\":2,\"user\":\"%u\"}", 1);
    torture("POST", "/v1/completions", "{\"prompt\":[\"Once\",\"upon a\",[70,71]],\"n\":2,"
            "\"max_tokens\":3,\"temperature\":0,\"echo\":true,\"logprobs\":1,"
            "\"return_token_ids\":true,\"allowed_token_ids\":[70,71,72],\"samplers\":[\"top_k\"],"
            "\"user\":\"%u\"}", 1);
    torture("POST", "/v1/completions", "{\"prompt\":[\"Once\",\"upon\"],\"max_tokens\":2,"
            "\"temperature\":0,\"guided_choice\":[\"aa\",\"bb\"],\"user\":\"%u\"}", 1);
    torture("POST", "/v1/completions", "{\"prompt\":[\"Once\",\"upon\"],\"max_tokens\":3,\"n\":2,"
            "\"temperature\":0,\"bad_words\":[\"be\",\" a\"],\"prompt_logprobs\":2,\"user\":\"%u\"}", 1);
    torture("POST", "/completion", "{\"prompt\":\"Once upon\",\"n_predict\":8,"
            "\"temperature\":0,\"n_probs\":2}", 1);
    torture("POST", "/completion", "{\"prompt\":\"Once upon\",\"n_predict\":8,"
            "\"temperature\":0,\"stream\":true}", 1);
}

static void other_apis(void **state)
{
    (void)state;
    torture("POST", "/v1/messages", "{" HI ",\"system\":[{\"type\":\"text\","
            "\"text\":\"Be brief.\"}]}", 1);
    torture("POST", "/v1/messages", "{" HI ",\"stream\":true}", 1);
    torture("POST", "/v1/messages", "{\"max_tokens\":3,\"temperature\":0,\"messages\":[{\"role\":\"user\","
            "\"content\":[{\"type\":\"document\",\"title\":\"T\",\"source\":{\"type\":\"text\",\"data\":\"d\"}},"
            "{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":\"no file\",\"is_error\":true}]}]}", 1);
    torture("POST", "/api/chat", "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],"
            "\"options\":{"
            "\"num_predict\":8,\"temperature\":0}}", 1);
    torture("POST", "/api/generate", "{\"prompt\":\"Hello\",\"stream\":false,"
            "\"options\":{\"num_predict\":8,"
            "\"temperature\":0}}", 1);
    torture("POST", "/v1/responses", "{\"input\":\"Hello\",\"max_output_tokens\":8,"
            "\"temperature\":0}", 1);
    torture("POST", "/v1/responses", "{\"input\":[{\"role\":\"user\","
            "\"content\":\"Hello\"}],\"max_output_tokens\":8,"
            "\"temperature\":0,\"stream\":true}", 1);
    torture("POST", "/v1/embeddings", "{\"input\":[\"a text\",\"another\"],"
            "\"encoding_format\":\"base64\"}", 1);
}

static void grammars(void **state)
{
    (void)state;
    torture("POST", "/v1/chat/completions", "{" HI ","
            "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
            "{\"name\":\"a\",\"schema\":{\"enum\":[1]}}}}", 1);
}

static void small_ones(void **state)
{
    static const char *const paths[] = { "/v1/models", "/health", "/props", "/slots", "/load", "/metrics",
                                         "/api/tags", "/api/version", "/openapi.json" };

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (strcmp(paths[i], "/metrics") != 0)
            torture("GET", paths[i], "", strcmp(paths[i], "/openapi.json") == 0 ? 17 : 1);
    torture("POST", "/tokenize", "{\"content\":\"Once upon a time\",\"with_pieces\":true}", 1);
    torture("POST", "/detokenize", "{\"tokens\":[65,66,67]}", 1);
    torture("POST", "/apply-template", "{\"messages\":[{\"role\":\"user\","
            "\"content\":\"Hello\"}]}", 1);
    torture("POST", "/api/show", "{\"model\":\"tiny\"}", 1);
    torture("POST", "/v1/messages/count_tokens", "{" HI "}", 1);
}

/* What a failed request left behind would add up. */
static void nothing_stays(void **state)
{
    uint64_t before, after;

    (void)state;
    (void)arm(0);
    before = arm(HOW_MUCH);
    chats(state);
    (void)arm(0);
    after = arm(HOW_MUCH);
    print_message("%lld bytes more after %u failures\n", (long long)(after - before), counted.refused);
    assert_true(after < before + 65536);
}

static void sums(void **state)
{
    (void)state;
    print_message("%u whole, %u refused, %u ended by an error, %u closed\n", counted.whole, counted.refused,
                  counted.cut, counted.silent);
    assert_true(counted.refused > counted.silent);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones),
        cmocka_unit_test(chats),
        cmocka_unit_test(completes),
        cmocka_unit_test(other_apis),
        cmocka_unit_test(grammars),
        cmocka_unit_test(nothing_stays),
        cmocka_unit_test(sums),
    };

    full = argc > 1 && strcmp(argv[1], "--full") == 0;
    return cmocka_run_group_tests_name("allocations in a server", tests, up, down);
}

#else

int main(void)
{
    (void)puts("built without -Dfaults=true");
    return 0;
}

#endif
