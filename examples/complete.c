/* complete.c: continues a text. cc complete.c $(pkg-config --cflags --libs watt) */
#include <stdio.h>
#include <string.h>
#include <watt.h>

static int show(void *ctx, const struct watt_token *t)
{
    return fwrite(t->text, 1, t->n_bytes, ctx) != t->n_bytes;
}

int main(int argc, char **argv)
{
    struct watt_generate_options options = { .size = sizeof options, .max_tokens = 64, .on_token = show, .ctx = stdout };
    struct watt_model *model = NULL;
    struct watt_session *session = NULL;
    struct watt_sampler *sampler = NULL;
    struct watt_error_info e = { 0 };
    const char *text = argc > 2 ? argv[2] : "";
    int32_t ids[512];
    size_t n;
    int failed = argc < 2
        || watt_model_open(&model, argv[1], NULL, &e) < 0
        || watt_session_open(&session, model, &e) < 0
        || watt_sampler_open(&sampler, model, NULL, &e) < 0
        || watt_tokenize(model, text, strlen(text), WATT_ADD_SPECIAL, ids, 512, &n, &e) < 0
        || watt_generate(session, sampler, ids, n, &options, NULL, &e) < 0;

    fprintf(failed ? stderr : stdout, "%s\n", argc < 2 ? "usage: complete MODEL [TEXT]" : e.msg);
    watt_sampler_close(sampler);
    watt_session_close(session);
    watt_model_close(model);
    return failed;
}
