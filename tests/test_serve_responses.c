/* test_serve_responses.c: the Responses API over real sockets: whole, streamed, kept and gone on from;
 * and the store behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "applications/api_store.h"
#include "serve_rig.h"

static json_t *created(const char *body)
{
    const int status = post("/v1/responses", body);

    if (status != 200)
        fail_msg("%s: %d %s", body, status, answer);
    return parsed();
}

static const char *text_of(const json_t *j)
{
    const json_t *item = json_array_get(json_object_get(j, "output"), 0);
    const json_t *part = json_array_get(json_object_get(item, "content"), 0);

    assert_string_equal(json_string_value(json_object_get(part, "type")), "output_text");
    return json_string_value(json_object_get(part, "text"));
}

/* The events of a stream; each is named as its type, and they are numbered. */
static json_t *events_of(char *stream)
{
    json_t *list = json_array();

    for (char *p = stream; (p = strstr(p, "event: ")); p++) {
        const char *name = p + 7, *data = strstr(p, "\ndata: ");
        json_t *j = json_loads(data + 7, JSON_DISABLE_EOF_CHECK, NULL);
        const char *type = json_string_value(json_object_get(j, "type"));

        assert_non_null(type);
        assert_int_equal(strncmp(name, type, strlen(type)), 0);
        assert_int_equal(json_integer_value(json_object_get(j, "sequence_number")),
                         json_array_size(list));
        (void)json_array_append_new(list, j);
    }
    return list;
}

static const char *type_at(const json_t *events, size_t i)
{
    return json_string_value(json_object_get(json_array_get(events, i), "type"));
}

static void streams_say_the_same(void **state)
{
    static const char *const first[] = { "response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added", "response.output_text.delta" };
    static const char *const last[] = { "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.incomplete" };
    json_t *j = created("{\"input\":\"hi\",\"max_output_tokens\":12,\"temperature\":0}"), *events;
    size_t n;

    (void)state;
    assert_string_equal(json_string_value(json_object_get(j, "status")), "incomplete");
    assert_int_equal(post("/v1/responses", "{\"input\":\"hi\",\"max_output_tokens\":12,"
                          "\"temperature\":0,\"stream\":true}"), 200);
    events = events_of(answer);
    n = json_array_size(events);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(type_at(events, i), first[i]);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(type_at(events, n - 4 + i), last[i]);
    assert_string_equal(text_of(j), text_of(json_object_get(json_array_get(events, n - 1),
                                                            "response")));
    assert_null(strstr(answer, "[DONE]"));
    json_decref(events);
    json_decref(j);
}

static void kept_and_gone_on_from(void **state)
{
    json_t *j = created("{\"input\":\"a\",\"max_output_tokens\":4,\"metadata\":{\"k\":\"v\"}}"), *k;
    char path[128], body[512];
    const char *id = json_string_value(json_object_get(j, "id"));

    (void)state;
    (void)snprintf(path, sizeof path, "/v1/responses/%s", id);
    assert_int_equal(ask(&shared_server, "GET", path, "", ""), 200);
    k = parsed();
    assert_true(json_equal(j, k));
    json_decref(k);
    (void)snprintf(body, sizeof body, "{\"input\":[{\"role\":\"user\",\"content\":\"b\"}],"
                   "\"max_output_tokens\":2,\"previous_response_id\":\"%s\"}", id);
    k = created(body);
    assert_true(json_integer_value(json_object_get(json_object_get(k, "usage"), "input_tokens")) >
                json_integer_value(json_object_get(json_object_get(j, "usage"), "input_tokens")));
    json_decref(k);
    assert_int_equal(ask(&shared_server, "DELETE", path, "", ""), 200);
    assert_int_equal(ask(&shared_server, "DELETE", path, "", ""), 404);
    assert_int_equal(ask(&shared_server, "GET", path, "", ""), 404);
    assert_int_equal(post("/v1/responses", body), 400);
    assert_non_null(strstr(answer, "previous_response_not_found"));
    json_decref(j);
    j = created("{\"input\":\"a\",\"max_output_tokens\":2,\"store\":false}");
    (void)snprintf(path, sizeof path, "/v1/responses/%s",
                   json_string_value(json_object_get(j, "id")));
    assert_int_equal(ask(&shared_server, "GET", path, "", ""), 404);
    json_decref(j);
}

static void items_of_all_kinds(void **state)
{
    json_t *j = created("{\"instructions\":\"x\",\"max_output_tokens\":1,\"input\":["
        "{\"role\":\"developer\",\"content\":\"y\"},"
        "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
        "\"text\":\"a\"}]},"
        "{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[{\"type\":\"summary_text\","
        "\"text\":\"t\"}]},"
        "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"1\"}],"
        "\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"low\"}}");

    (void)state;
    json_decref(j);
    j = created("{\"input\":\"a\",\"max_output_tokens\":40,\"text\":{\"format\":{\"type\":"
                "\"json_schema\",\"name\":\"n\",\"schema\":{\"enum\":[17]}}}}");
    assert_true(strtod(text_of(j), NULL) == 17);        /* drawn at random: 17.0 is equal */
    assert_string_equal(json_string_value(json_object_get(j, "status")), "completed");
    json_decref(j);
    assert_int_equal(post("/v1/responses/input_tokens", "{\"input\":\"a\"}"), 200);
    assert_non_null(strstr(answer, "\"input_tokens\":"));
}

/* More turns than the context holds: an error, or the oldest go. */
static void truncates_when_asked(void **state)
{
    char body[8192];
    size_t n = (size_t)snprintf(body, sizeof body, "{\"max_output_tokens\":2,\"input\":["
                                "{\"role\":\"system\",\"content\":\"s\"}");
    json_t *j;

    (void)state;
    for (int i = 0; i < 30; i++)
        n += (size_t)snprintf(body + n, sizeof body - n, ",{\"role\":\"%s\",\"content\":\"abc\"}",
                              i % 2 ? "assistant" : "user");
    n += (size_t)snprintf(body + n, sizeof body - n, ",{\"role\":\"user\",\"content\":\"z\"}]");
    (void)snprintf(body + n, sizeof body - n, "}");
    assert_int_equal(post("/v1/responses", body), 400);
    assert_non_null(strstr(answer, "context_length_exceeded"));
    assert_non_null(strstr(answer, "\"param\":\"input\""));
    (void)snprintf(body + n, sizeof body - n, ",\"truncation\":\"auto\"}");
    j = created(body);
    json_decref(j);
}

static void wrong_requests(void **state)
{
    static const struct { const char *body, *needle; } cases[] = {
        { "{}", "\"param\":\"input\"" },
        { "{\"input\":7}", "input" },
        { "{\"input\":[]}", "at least one item" },
        { "{\"input\":[{\"role\":\"robot\",\"content\":\"x\"}]}", "robot" },
        { "{\"input\":[{\"type\":\"computer_call\"}]}", "computer_call" },
        { "{\"input\":[{\"type\":\"function_call\",\"name\":\"f\"}]}", "call_id" },
        { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
          "input_image" },
        { "{\"input\":\"x\",\"tools\":[{\"type\":\"web_search\"}]}", "web_search" },
        { "{\"input\":\"x\",\"background\":true}", "\"param\":\"background\"" },
        { "{\"input\":\"x\",\"previous_response_id\":7}", "previous_response_id" },
        { "{\"input\":\"x\",\"store\":\"yes\"}", "store" },
        { "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"xml\"}}}", "xml" },
        { "{\"input\":\"x\",\"instructions\":7}", "instructions" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int status = post("/v1/responses", cases[i].body);

        if (status != 400 || !strstr(answer, cases[i].needle))
            fail_msg("%s: %d %s", cases[i].body, status, answer);
    }
}

/* ---- the store ---- */

static void the_oldest_goes(void **state)
{
    struct api_store *s;
    char text[300], id[16];
    json_t *doc, *got;
    struct err e;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    doc = json_string(text);
    assert_int_equal(api_store_open(&s, 8192, &e), 0);
    for (unsigned i = 0; i < 50; i++) {
        const json_t *docs[API_N_STORED] = { doc, doc, doc };

        (void)snprintf(id, sizeof id, "r%u", i);
        api_store_put(s, id, 1, docs);
        assert_true(api_store_bytes(s) <= 8192);
        got = api_store_get(s, "r0", 1, API_STORED_INPUT);      /* used, so it stays */
        assert_true(json_equal(got, doc));
        json_decref(got);
    }
    assert_null(api_store_get(s, "r0", 2, API_STORED_INPUT));
    assert_false(api_store_drop(s, "r0", 2));
    assert_null(api_store_get(s, "r10", 1, API_STORED_RESPONSE));
    assert_true(api_store_drop(s, "r49", 1));
    json_decref(doc);
    api_store_close(s);
    assert_int_equal(api_store_open(&s, 10, &e), 0);
    doc = json_string("longer than ten bytes");
    api_store_put(s, "a", 0, (const json_t *[]){ doc, doc, doc });
    assert_int_equal(api_store_bytes(s), 0);
    json_decref(doc);
    api_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_say_the_same),
        cmocka_unit_test(kept_and_gone_on_from),
        cmocka_unit_test(items_of_all_kinds),
        cmocka_unit_test(truncates_when_asked),
        cmocka_unit_test(wrong_requests),
        cmocka_unit_test(the_oldest_goes),
    };

    return cmocka_run_group_tests_name("serve_responses", tests, group_up, group_down);
}
