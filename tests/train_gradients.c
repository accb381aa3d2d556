/* train_gradients.c: loss and gradients of a model for tests/references/autograd.py:
 *   train_gradients MODEL OUT f32|bf16 BALANCE LENGTHS IDS
 * LENGTHS and IDS are numbers between commas: the rows of each sequence, and all tokens; each row
 * is to predict the next of its sequence. OUT: the loss's sum and the load-balance loss (f64), then
 * for each parameter the length of its name (u32), the name, the number of floats (u64), floats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chips/train.h"
#include "models/model.h"

enum { MAX_ROWS = 4096, MAX_STREAMS = 64 };

static uint32_t numbers(const char *text, int32_t *out, uint32_t max)
{
    uint32_t n = 0;
    char *end;

    for (; *text && n < max; text = *end ? end + 1 : end)
        out[n++] = (int32_t)strtol(text, &end, 10);
    return n;
}

static int write_params(const struct train *t, const struct train_loss *loss, const char *path)
{
    FILE *f = fopen(path, "wb");
    const double head[2] = { loss->sum, loss->balance };

    if (!f)
        return -1;
    (void)fwrite(head, sizeof head, 1, f);
    for (uint32_t i = 0; i < train_n_params(t); i++) {
        const struct train_param *p = train_param(t, i);
        const uint32_t len = (uint32_t)strlen(p->name);

        if (!p->trains)
            continue;
        (void)fwrite(&len, sizeof len, 1, f);
        (void)fwrite(p->name, len, 1, f);
        (void)fwrite(&p->n, sizeof p->n, 1, f);
        (void)fwrite(p->g, sizeof *p->g, p->n, f);
    }
    return fclose(f);
}

int main(int argc, char **argv)
{
    static int32_t lengths[MAX_STREAMS], token[MAX_ROWS], target[MAX_ROWS];
    struct train_opts o = { .isa_mask = CPU_ALL, .max_rows = MAX_ROWS, .max_streams = MAX_STREAMS };
    struct train_batch b = { .stream_rows = (const uint32_t *)lengths, .token = token,
                             .target = target };
    struct train_loss loss;
    struct model *m = NULL;
    struct train *t = NULL;
    struct err e = { 0 };
    int rc;

    if (argc != 7)
        return 2;
    o.compute = strcmp(argv[3], "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    o.balance = strtof(argv[4], NULL);
    b.n_streams = numbers(argv[5], lengths, MAX_STREAMS);
    b.n_rows = numbers(argv[6], token, MAX_ROWS);
    for (uint32_t s = 0, row = 0; s < b.n_streams; s++)
        for (int32_t i = 0; i < lengths[s] && row < b.n_rows; i++, row++)
            target[row] = i + 1 < lengths[s] ? token[row + 1] : -1;
    o.max_rows = b.n_rows;
    o.max_streams = b.n_streams;
    rc = team_open(&o.team, 2, &e);
    if (rc == 0)
        rc = model_open(&m, argv[1], NULL, &e);
    if (rc == 0)
        rc = train_open(&t, model_program(m), &o, &e);
    if (rc == 0)
        rc = train_forward_backward(t, &b, 1, &loss, &e);
    if (rc < 0)
        (void)fprintf(stderr, "%s\n", e.msg);
    else
        rc = write_params(t, &loss, argv[2]);
    train_close(t);
    model_close(m);
    team_close(o.team);
    return rc < 0;
}
