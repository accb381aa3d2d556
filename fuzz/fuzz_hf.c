/* fuzz_hf.c: arbitrary bytes as one of the files of a Hugging Face folder, the others being sound.
 * The first byte says which; what opens is looked at as a model would. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/hf/hf.h"
#include "models/model.h"
#include "models/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "fuzz-hf-XXXXXX";

static const struct { const char *name, *sound; } files[] = {
    { "config.json", "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":4,"
                     "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"vocab_size\":4,"
                     "\"num_local_experts\":2,\"intermediate_size\":4,\"quantization_config\":{"
                     "\"quant_method\":\"gptq\",\"group_size\":32}}" },
    { "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":["
                        "\"a b\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}" },
    { "model.safetensors", NULL },
    { "model.safetensors.index.json", NULL },
    { "tokenizer.model", NULL },
    { "tokenizer_config.json", NULL },
    { "generation_config.json", NULL },
    { "chat_template.json", NULL },
};
#define N_FILES (sizeof files / sizeof *files)

static void put(const char *name, const void *bytes, size_t n)
{
    char path[64];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static void drop(const char *name)
{
    char path[64];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)remove(path);
}

static void clean(void)
{
    for (size_t i = 0; i < N_FILES; i++)
        drop(files[i].name);
    (void)rmdir(dir);
}

static void set_up(void)
{
    static const char header[] =
        "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[4,4],\"data_offsets\":[0,64]},"
        "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[64,80]}}";
    static char whole[8 + sizeof header - 1 + 80];
    static int ready;

    if (!ready) {
        if (!mkdtemp(dir) || atexit(clean) != 0)
            abort();
        whole[0] = (char)(uint8_t)(sizeof header - 1);
        memcpy(whole + 8, header, sizeof header - 1);
        ready = 1;
    }
    for (size_t i = 0; i < N_FILES; i++) {
        if (files[i].sound)
            put(files[i].name, files[i].sound, strlen(files[i].sound));
        else
            drop(files[i].name);
    }
    put("model.safetensors", whole, sizeof whole);
}

static volatile uint8_t sink;

static void look(struct gguf *g)
{
    struct tokenizer *t = NULL;
    struct tokens ids = { 0 };
    struct model *m = NULL;
    struct err e;

    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *x = &gguf_tensor_at(g, i)->t;

        if (x->size_bytes) {
            sink = ((const uint8_t *)x->data)[0];
            sink = ((const uint8_t *)x->data)[x->size_bytes - 1];
        }
    }
    if (tokenizer_open(&t, g, &e) == 0 &&
        tokenizer_encode(t, NULL, "ab <s> \xFF", 8, TOKENIZE_ADD_SPECIAL, &ids, &e) < 0 &&
        e.msg[0] == '\0')
        abort();
    tokens_deinit(&ids);
    tokenizer_close(t);
    if (model_open_gguf(&m, g, NULL, &e) == 0)
        model_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t which = size ? data[0] % N_FILES : 0;
    const struct hf_opts opts = { .vocab_only = size > 0 && data[0] >= 128 };
    struct gguf *g = NULL;
    struct err e = { 0 };

    if (size == 0)
        return 0;
    set_up();
    put(files[which].name, data + 1, size - 1);
    if (strcmp(files[which].name, "tokenizer.model") == 0)
        drop("tokenizer.json");
    if (hf_open(&g, dir, &opts, &e) == 0)
        look(g);
    else if (!strstr(e.msg, dir))
        abort();        /* a message names the file */
    return 0;
}
