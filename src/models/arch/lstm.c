/* lstm.c: stacks of LSTM cells (Hochreiter and Schmidhuber 1997) or GRU cells (Cho et al. 2014,
 * arXiv 1406.1078) over an embedding: language models from before attention. Cells tell their kind by
 * their rows of gates: four (in, forget, candidate, out) or three (reset, update, candidate). */
#include "models/arch.h"

arch_fn arch_lstm;

static val cell(struct build *b, val x)
{
    const uint32_t n = build_extent(b, "blk.%u.cell_h.weight", 1);
    const uint32_t gates = build_extent(b, "blk.%u.cell_h.weight", 0);
    const struct cell_args a = { n && gates == 3 * (uint64_t)n ? CELL_GRU : CELL_LSTM, n };
    const uint32_t rows = a.kind == CELL_GRU ? 3 : 4;

    if (prog_failed(b->p))
        return 0;
    if (n > 65536) {
        prog_fail(b->p, WATT_EFORMAT, "%s: cells of %u hidden units, at most 65536",
                  gguf_path(b->g), n);
        return 0;
    }
    return prog_cell(b->p, build_linear(b, x, "blk.%u.cell_x", rows * n),
                     build_need(b, "blk.%u.cell_h.weight", SHAPE(rows * n, n)),
                     build_opt(b, "blk.%u.cell_h.bias", SHAPE(rows * n)),
                     prog_state_fixed(b->p, a.kind == CELL_GRU ? n : 2 * n), a);
}

void arch_lstm(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b))
        x = cell(b, x);
    if (prog_failed(b->p))
        return;
    b->n_embd = prog_width(b->p, x);
    prog_output(b->p, build_logits(b, x));
}
