/* test_serve_options.c: options of `watt serve` that are of one model each: templates, drafts, folders
 * and adapters, by the model's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/stat.h>

#include "remove_tree.h"
#include "serve_rig.h"

static char template_path[96], strong_path[96], weak_path[96], folder[96], lora_two[160],
    lora_one[160], template_two[160], draft_two[160], folder_two[160], model_two[160];

/* An adapter of one product, all of whose numbers are the same. */
static void write_adapter(const char *path, float value)
{
    const int64_t a[2] = { 2, 64 }, b[2] = { 64, 2 };
    struct gguf_writer *w = NULL;
    struct err e = { 0 };
    float data[128];

    for (int i = 0; i < 128; i++)
        data[i] = i % 3 ? value : -value;
    if (gguf_writer_open(&w, path, &e) < 0 ||
        gguf_writer_str(w, "general.architecture", SV("llama"), &e) < 0 ||
        gguf_writer_str(w, "general.type", SV("adapter"), &e) < 0 ||
        gguf_writer_str(w, "adapter.type", SV("lora"), &e) < 0 ||
        gguf_writer_f32(w, "adapter.lora.alpha", 4, &e) < 0 ||
        gguf_writer_tensor(w, "blk.0.attn_q.weight.lora_a", DTYPE_F32, 2, a, &e) < 0 ||
        gguf_writer_tensor(w, "blk.0.attn_q.weight.lora_b", DTYPE_F32, 2, b, &e) < 0 ||
        gguf_writer_begin(w, &e) < 0 || gguf_writer_data(w, data, sizeof data, &e) < 0 ||
        gguf_writer_data(w, data, sizeof data, &e) < 0 || gguf_writer_commit(w, &e) < 0)
        fail_msg("%s", e.msg);
}

static int up(void **state)
{
    FILE *f;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)tiny_make(state);
    (void)snprintf(template_path, sizeof template_path, "%s/t.jinja", tiny_dir);
    (void)snprintf(strong_path, sizeof strong_path, "%s/strong.gguf", tiny_dir);
    (void)snprintf(weak_path, sizeof weak_path, "%s/weak.gguf", tiny_dir);
    (void)snprintf(folder, sizeof folder, "%s/pages", tiny_dir);
    (void)snprintf(model_two, sizeof model_two, "two=%s", bare_path);
    (void)snprintf(lora_two, sizeof lora_two, "two=strong=%s", strong_path);
    (void)snprintf(lora_one, sizeof lora_one, "weak=%s", weak_path);
    (void)snprintf(template_two, sizeof template_two, "two=%s", template_path);
    (void)snprintf(draft_two, sizeof draft_two, "two=%s", tiny_path);
    (void)snprintf(folder_two, sizeof folder_two, "two=%s", folder);
    f = fopen(template_path, "w");
    assert_non_null(f);
    assert_true(fputs("{% for m in messages %}<<{{ m.content }}>>{% endfor %}", f) >= 0);
    assert_int_equal(fclose(f), 0);
    write_adapter(strong_path, 0.9f);
    write_adapter(weak_path, 0.5f);
    return 0;
}

static int down(void **state)
{
    (void)remove_tree(folder);
    (void)unlink(template_path);
    (void)unlink(strong_path);
    (void)unlink(weak_path);
    return tiny_remove(state);
}

static char *text_by(const struct server *s, const char *model)
{
    char body[256], *text;
    json_t *j;

    (void)snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"Once upon\",\"max_tokens\":16,"
                   "\"ignore_eos\":true,\"temperature\":0}", model);
    if (ask(s, "POST", "/v1/completions", "Content-Type: application/json\r\n", body) != 200)
        fail_msg("%s: %s", model, answer);
    j = parsed();
    assert_string_equal(json_string_value(json_object_get(j, "model")), model);
    text = strdup(json_string_value(json_object_get(json_array_get(json_object_get(j, "choices"), 0),
                                                    "text")));
    json_decref(j);
    return text;
}

static bool prompt_has(const struct server *s, const char *model, const char *part)
{
    char body[256];

    (void)snprintf(body, sizeof body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":"
                   "\"hi\"}]}", model);
    assert_int_equal(ask(s, "POST", "/apply-template", "Content-Type: application/json\r\n", body), 200);
    return strstr(answer, part) != NULL;
}

static const char *parent_of(const struct server *s, const char *id)
{
    static char parent[32];
    char path[64];
    json_t *j;

    (void)snprintf(path, sizeof path, "/v1/models/%s", id);
    assert_int_equal(ask(s, "GET", path, "", ""), 200);
    j = parsed();
    (void)snprintf(parent, sizeof parent, "%s", json_string_value(json_object_get(j, "parent")));
    json_decref(j);
    return parent;
}

/* llama-server's way: by their place in /lora-adapters. */
static void numbers_mean_adapters(const struct server *s, const char *none, const char *weak)
{
    static const struct { const char *lora; int status; } cases[] = {
        { "[{\"id\":0,\"scale\":1}]", 200 }, { "[{\"id\":0,\"scale\":0}]", 200 },
        { "[{\"id\":0,\"scale\":101}]", 400 }, { "[{\"id\":0},{\"id\":0,\"scale\":0.5}]", 400 },
        { "[{\"id\":1}]", 400 }, { "[{\"id\":-1}]", 400 } };

    assert_int_equal(ask(s, "GET", "/lora-adapters?model=one", "", ""), 200);
    assert_string_equal(answer, "[{\"id\":0,\"path\":\"weak\",\"scale\":0.0}]");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256];
        json_t *j;

        (void)snprintf(body, sizeof body, "{\"model\":\"one\",\"prompt\":\"Once upon\",\"max_tokens\":16,"
                       "\"ignore_eos\":true,\"temperature\":0,\"lora\":%s}", cases[i].lora);
        assert_int_equal(ask(s, "POST", "/v1/completions", "", body), cases[i].status);
        if (cases[i].status != 200) {
            assert_non_null(strstr(answer, "\"param\":\"lora\""));
            continue;
        }
        j = parsed();
        assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(j,
            "choices"), 0), "text")), i == 0 ? weak : none);
        assert_string_equal(json_string_value(json_object_get(j, "model")), i == 0 ? "weak" : "one");
        json_decref(j);
    }
}

/* Any scale, and never out of what another scale left in the cache. */
static void scales_are_apart(const struct server *s, const char *none, const char *weak)
{
    static const double scales[] = { 2, 1, 0.25, 2, -3, 1e-6, 0.25, 1 };
    char *first[8] = { NULL };

    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        char body[256];
        const char *text;
        size_t same = i;
        json_t *j;

        (void)snprintf(body, sizeof body, "{\"model\":\"one\",\"prompt\":\"Once upon\",\"max_tokens\":16,"
                       "\"ignore_eos\":true,\"temperature\":0,\"cache_salt\":\"scales\",\"lora\":[{\"id\":0,"
                       "\"scale\":%g}]}", scales[i]);
        assert_int_equal(ask(s, "POST", "/v1/completions", "", body), 200);
        j = parsed();
        text = json_string_value(json_object_get(json_array_get(json_object_get(j, "choices"), 0), "text"));
        for (size_t k = 0; k < i; k++)
            same = scales[k] == scales[i] && same == i ? k : same;
        assert_true((json_integer_value(json_object_get(json_object_get(json_object_get(j, "usage"),
                     "prompt_tokens_details"), "cached_tokens")) > 0) == (same < i));
        if (same < i)
            assert_string_equal(text, first[same]);
        if (scales[i] == 1)
            assert_string_equal(text, weak);
        if (scales[i] == 1e-6)
            assert_string_equal(text, none);            /* next to nothing */
        if (scales[i] == 2)
            assert_string_not_equal(text, none);
        first[i] = strdup(text);
        json_decref(j);
    }
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        free(first[i]);
}

static void each_has_its_own(void **state)
{
    const char *const argv[] = { "watt", "serve", tiny_path, "--name", "one", "--model", model_two,
                                 "--port", "0", "--quiet", "--threads", "2", "--template", template_two,
                                 "--draft", draft_two, "--cache-dir", folder_two, "--lora", lora_two,
                                 "--lora", lora_one, NULL };
    struct server s;
    char *one, *two, *strong, *weak, *again;
    struct stat st;

    (void)state;
    start_argv(&s, argv);
    one = text_by(&s, "one");
    two = text_by(&s, "two");
    strong = text_by(&s, "strong");
    weak = text_by(&s, "weak");
    again = text_by(&s, "strong");
    assert_string_equal(one, two);          /* the same weights; one of them with a draft */
    assert_string_not_equal(strong, two);
    assert_string_not_equal(strong, weak);
    assert_string_equal(strong, again);
    assert_true(prompt_has(&s, "two", "<<hi>>"));
    assert_false(prompt_has(&s, "one", "<<hi>>"));
    assert_true(prompt_has(&s, "strong", "<<hi>>"));
    assert_string_equal(parent_of(&s, "strong"), "two");
    assert_string_equal(parent_of(&s, "weak"), "one");
    assert_int_equal(stat(folder, &st), 0);
    numbers_mean_adapters(&s, one, weak);
    scales_are_apart(&s, one, weak);
    assert_int_equal(stop(&s), 0);
    free(one);
    free(two);
    free(strong);
    free(weak);
    free(again);
}

static void refused(const char *option, const char *value, const char *again, const char *says)
{
    static struct spawned r;
    char *argv[] = { (char *)(uintptr_t)"watt", (char *)(uintptr_t)"serve", tiny_path,
                     (char *)(uintptr_t)"--name", (char *)(uintptr_t)"one",
                     (char *)(uintptr_t)"--model", model_two, (char *)(uintptr_t)"--port",
                     (char *)(uintptr_t)"0", (char *)(uintptr_t)option, (char *)(uintptr_t)value,
                     again ? (char *)(uintptr_t)option : NULL, (char *)(uintptr_t)again, NULL };

    spawn_to(&r, argv, NULL, -1);
    assert_int_equal(r.code, 1);
    if (!strstr(r.err, says))
        fail_msg("wanted '%s', got: %s", says, r.err);
}

static void names_must_be_models(void **state)
{
    (void)state;
    refused("--draft", "nobody=small.gguf", NULL, "no model is called 'nobody'");
    refused("--draft", "two=", NULL, "nothing behind '='");
    refused("--template", template_two, template_two, "--template is given twice for model two");
    refused("--template", "two=missing.jinja", NULL, "missing.jinja");
    refused("--cache-dir", "one=pages", "two=pages", "given for two models, one and two");
    refused("--alias", "x=nobody", NULL, "no model of this command is called 'nobody'");
    refused("--lora", "two=strong", NULL, "expected ADAPTER=FILE");
    refused("--lora", "two=one=file.gguf", NULL, "is a model's own name");
    refused("--lora", lora_two, lora_two, "the name is given twice");
    refused("--lora", "two=polite=missing.gguf", NULL, "missing.gguf");
}

/* Command lines of llama-server and vLLM. */
static void other_spellings(void **state)
{
    const char *const llama[] = { "watt", "serve", "-m", tiny_path, "-c", "48", "-np", "3", "-ngl", "99",
                                  "-t", "2", "--jinja", "-a", "theirs", "-ctk", "f16", "--port", "0", NULL };
    const char *const vllm[] = { "watt", "serve", tiny_path, "--served-model-name", "theirs",
                                 "--max-model-len=48", "--max-num-seqs", "3", "--gpu-memory-utilization",
                                 "0.9", "--no-enable-prefix-caching", "--port", "0", NULL };
    const char *const model[] = { "watt", "serve", "--model", tiny_path, "--ctx-size", "48", "--parallel", "3",
                                  "--alias", "theirs", "--port", "0", NULL };
    const char *const *const all[] = { llama, vllm, model };
    static struct spawned r;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct server s;
        json_t *j;

        start_argv(&s, all[i]);
        assert_int_equal(ask(&s, "GET", "/props?model=theirs", "", ""), 200);
        j = parsed();
        assert_int_equal(json_integer_value(json_object_get(j, "total_slots")), 3);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(j,
            "default_generation_settings"), "n_ctx")), 48);
        json_decref(j);
        assert_int_equal(stop(&s), 0);
    }
    spawn(&r, NULL, "serve", "--max-model-len");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "--max-model-len wants a value"));
    spawn(&r, NULL, "serve", "/nonexistent.gguf", "-ngl", "99", "--no-enable-prefix-caching=1");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "takes no value"));
    spawn(&r, NULL, "serve", "/nonexistent.gguf", "-ngl", "99", "--port", "0");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "note: -ngl is of no meaning here"));
    spawn(&r, NULL, "serve", "-m", "/nonexistent.gguf", "--max-num-seqs", "many");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "--max-num-seqs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_own),
        cmocka_unit_test(names_must_be_models),
        cmocka_unit_test(other_spellings),
    };

    return cmocka_run_group_tests(tests, up, down);
}
