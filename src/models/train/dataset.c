/* dataset.c: batches from shards; see dataset.h. */
#include "models/train/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

#define FEISTEL_ROUNDS 4

struct source {
    struct shard *shard;
    double        weight;           /* cumulative share of the mixture, the last one is 1 */
    uint64_t      first, end;       /* tokens of the part */
    uint64_t      doc_first, doc_end;
    struct dataset_place at;
};

struct dataset {
    struct dataset_opts  o;
    struct source       *sources;
    size_t               n_sources, current;    /* current: of in_order */
    uint64_t             n_drawn, n_tokens;
    struct dataset_batch b;
    int32_t             *ids;       /* [ctx + 1] one sequence */
    uint8_t             *marks;
};

/* ---- order ---- */

/* Where index goes in the permutation of 0 .. n - 1 under this key: rounds over numbers of
 * 2 * half bits, again until one falls below n. */
static uint64_t permuted(uint64_t index, uint64_t n, uint64_t key)
{
    unsigned half = 1;

    while (half < 32 && (uint64_t)1 << 2 * half < n)
        half++;
    do {
        const uint64_t mask = ((uint64_t)1 << half) - 1;
        uint64_t left = index >> half, right = index & mask;

        for (unsigned r = 0; r < FEISTEL_ROUNDS; r++) {
            const uint64_t next = left ^ (rng_mix(key + rng_mix(right + ((uint64_t)r << 40))) & mask);

            left = right;
            right = next;
        }
        index = left << half | right;
    } while (index >= n);
    return index;
}

static uint64_t epoch_key(const struct dataset *d, const struct source *s)
{
    return rng_mix(d->o.seed + rng_mix((uint64_t)(s - d->sources) + rng_mix(s->at.epoch)));
}

/* First token of this epoch's windows behind the part's first. */
static uint64_t window_offset(const struct dataset *d, const struct source *s)
{
    const uint64_t spare = s->end - s->first - 1 - d->o.ctx;
    const uint64_t most = spare < d->o.ctx ? spare + 1 : d->o.ctx;

    return d->o.in_order ? 0 : epoch_key(d, s) % most;
}

static uint64_t n_windows(const struct dataset *d, const struct source *s)
{
    return (s->end - s->first - 1 - window_offset(d, s)) / d->o.ctx;
}

static uint64_t n_sequences(const struct dataset *d, const struct source *s)
{
    return d->o.documents ? s->doc_end - s->doc_first : n_windows(d, s);
}

/* Which shard the next sequence comes from. */
static struct source *pick(struct dataset *d)
{
    double u;

    if (d->o.in_order)
        return d->current < d->n_sources ? &d->sources[d->current] : NULL;
    u = (double)(rng_mix(d->o.seed ^ rng_mix(d->n_drawn ^ 0x6d697874)) >> 11) * 0x1p-53;
    for (size_t i = 0; i + 1 < d->n_sources; i++)
        if (u < d->sources[i].weight)
            return &d->sources[i];
    return &d->sources[d->n_sources - 1];
}

/* ---- sequences ---- */

struct span { uint64_t first; uint32_t n; uint64_t next_piece; };  /* n tokens, > 1 */

static int window_at(const struct dataset *d, const struct source *s, struct span *out)
{
    const uint64_t n = n_windows(d, s);
    const uint64_t i = d->o.in_order ? s->at.index : permuted(s->at.index, n, epoch_key(d, s));

    out->first = s->first + window_offset(d, s) + i * d->o.ctx;
    out->n = d->o.ctx + 1;
    out->next_piece = 0;
    return 0;
}

/* n = 0: a document of one token, from which nothing can be learned. */
static int piece_at(const struct dataset *d, const struct source *s, struct span *out,
                    struct err *e)
{
    const uint64_t n = n_sequences(d, s);
    const uint64_t i = d->o.in_order ? s->at.index : permuted(s->at.index, n, epoch_key(d, s));
    uint64_t first, end, left;
    int rc = shard_doc(s->shard, s->doc_first + i, &first, &end, e);

    if (rc < 0)
        return rc;
    if (s->at.piece > (end - first) / d->o.ctx)
        return err_set(e, WATT_EINVAL, "%s: document %" PRIu64 " has no piece %" PRIu64,
                       shard_path(s->shard), i, s->at.piece);
    out->first = first + s->at.piece * d->o.ctx;
    left = end - out->first;
    out->n = left > d->o.ctx ? d->o.ctx + 1 : (uint32_t)left;
    out->next_piece = left > (uint64_t)d->o.ctx + 1 ? s->at.piece + 1 : 0;
    if (left < 2)
        out->n = 0;
    return 0;
}

static void advance(struct dataset *d, struct source *s, const struct span *span)
{
    s->at.piece = span->next_piece;
    if (s->at.piece == 0 && ++s->at.index == n_sequences(d, s)) {
        s->at.index = 0;
        s->at.epoch++;
        d->current++;
    }
    d->n_drawn++;
}

static void append(struct dataset *d, uint32_t n_rows)
{
    struct dataset_batch *b = &d->b;

    for (uint32_t i = 0; i < n_rows; i++) {
        b->token[b->n_rows + i] = d->ids[i];
        b->target[b->n_rows + i] = d->ids[i + 1];
        b->weight[b->n_rows + i] = d->marks[i + 1] ? 1.0f : 0.0f;
        b->n_targets += d->marks[i + 1];
    }
    b->stream_rows[b->n_streams++] = n_rows;
    b->n_rows += n_rows;
}

/* Puts sequences into the batch until the next one doesn't fit. */
static int fill(struct dataset *d, struct err *e)
{
    /* documents of one token, or without anything to learn, must not keep us here forever */
    for (uint64_t idle = 0; d->b.n_streams < d->o.max_streams;) {
        struct source *s = pick(d);
        struct span span;
        int rc;

        if (!s)
            break;
        rc = d->o.documents ? piece_at(d, s, &span, e) : window_at(d, s, &span);
        if (rc < 0)
            return rc;
        if (span.n > 0 && span.n - 1 > d->o.max_rows - d->b.n_rows)
            break;
        if (span.n > 0) {
            const uint64_t before = d->b.n_targets;

            rc = shard_read(s->shard, span.first, span.n, d->ids, d->marks, e);
            if (rc < 0)
                return rc;
            append(d, span.n - 1);
            if (d->b.n_targets == before) {     /* nothing to learn: give its place away */
                d->b.n_rows -= span.n - 1;
                d->b.n_streams--;
            } else {
                idle = 0;
            }
        }
        advance(d, s, &span);
        if (++idle > 1000000)
            return err_set(e, WATT_EINVAL, "%s: a million sequences with nothing to learn",
                           shard_path(s->shard));
    }
    return 0;
}

int dataset_next(struct dataset *d, const struct dataset_batch **b, struct err *e)
{
    struct dataset_state before;
    const size_t current = d->current;
    int rc;

    dataset_state(d, &before);
    d->b.n_rows = d->b.n_streams = 0;
    d->b.n_targets = 0;
    rc = fill(d, e);
    if (rc == 0 && d->b.n_rows == 0)
        rc = err_set(e, WATT_ENOENT, "the data end here");
    if (rc < 0) {
        d->n_drawn = before.n_drawn;
        d->current = current;
        for (size_t i = 0; i < d->n_sources; i++)
            d->sources[i].at = before.place[i];
        return rc;
    }
    *b = &d->b;
    return 0;
}

void dataset_rewind(struct dataset *d)
{
    d->n_drawn = 0;
    d->current = 0;
    for (size_t i = 0; i < d->n_sources; i++)
        d->sources[i].at = (struct dataset_place){ 0 };
}

void dataset_state(const struct dataset *d, struct dataset_state *s)
{
    memset(s, 0, sizeof *s);
    s->n_drawn = d->n_drawn;
    for (size_t i = 0; i < d->n_sources; i++)
        s->place[i] = d->sources[i].at;
}

int dataset_seek(struct dataset *d, const struct dataset_state *s, struct err *e)
{
    CHECK(!d->o.in_order);
    for (size_t i = 0; i < d->n_sources; i++) {
        struct source *src = &d->sources[i];
        const struct dataset_place old = src->at;

        src->at = s->place[i];
        if (src->at.index >= n_sequences(d, src) || src->at.piece > SHARD_MAX_TOKENS) {
            src->at = old;
            return err_set(e, WATT_EINVAL, "%s: position %" PRIu64 " lies outside the data",
                           shard_path(src->shard), s->place[i].index);
        }
    }
    d->n_drawn = s->n_drawn;
    return 0;
}

uint64_t dataset_n_tokens(const struct dataset *d)
{
    return d->n_tokens;
}

double dataset_epochs(const struct dataset *d)
{
    double sum = 0;

    for (size_t i = 0; i < d->n_sources; i++) {
        const struct source *s = &d->sources[i];
        const double share = (double)s->at.index / (double)n_sequences(d, s);

        sum += ((double)s->at.epoch + share) * (double)(s->end - s->first);
    }
    return sum / (double)d->n_tokens;
}

/* ---- opening ---- */

/* The first document that begins at or behind this token. */
static int doc_from(const struct shard *s, uint64_t token, uint64_t *doc, struct err *e)
{
    uint64_t low = 0, high = shard_n_docs(s);

    while (low < high) {
        const uint64_t mid = low + (high - low) / 2;
        uint64_t first, end;
        const int rc = shard_doc(s, mid, &first, &end, e);

        if (rc < 0)
            return rc;
        if (first < token)
            low = mid + 1;
        else
            high = mid;
    }
    *doc = low;
    return 0;
}

static int set_part(const struct dataset *d, struct source *s, struct err *e)
{
    const uint64_t n = shard_n_tokens(s->shard);
    uint64_t cut = n - (uint64_t)floor((double)n * d->o.held), doc, first, end;
    int rc;

    s->first = 0;
    s->end = n;
    s->doc_end = shard_n_docs(s->shard);
    if (d->o.part == DATASET_ALL)
        return 0;
    rc = doc_from(s->shard, cut, &doc, e);
    if (rc < 0)
        return rc;
    if (d->o.documents) {       /* a document lies on one side */
        rc = doc < s->doc_end ? shard_doc(s->shard, doc, &first, &end, e) : 0;
        if (rc < 0)
            return rc;
        cut = doc < s->doc_end ? first : n;
    }
    if (d->o.part == DATASET_TRAIN) {
        s->end = cut;
        s->doc_end = doc;
    } else {
        s->first = cut;
        s->doc_first = doc;
    }
    return 0;
}

static int open_source(struct dataset *d, struct source *s, const struct dataset_source *from,
                       struct err *e)
{
    static const char *const parts[] = { "", " of the training part", " of the part held back" };
    int rc;

    s->shard = from->shard;
    if (!(from->weight >= 0 && from->weight < 1e30))
        return err_set(e, WATT_EINVAL, "%s: weight %g", shard_path(s->shard), from->weight);
    rc = set_part(d, s, e);
    if (rc < 0)
        return rc;
    if (d->o.documents ? s->doc_first >= s->doc_end : s->end - s->first < (uint64_t)d->o.ctx + 1)
        return err_set(e, WATT_EINVAL, "%s: %" PRIu64 " tokens in %" PRIu64 " documents%s are "
                       "fewer than %s%s", shard_path(s->shard), s->end - s->first,
                       s->doc_end - s->doc_first, parts[d->o.part],
                       d->o.documents ? "one document" : "one context and a token",
                       d->o.part == DATASET_HELD ? ": hold back more, or nothing" : "");
    d->n_tokens += s->end - s->first;
    return 0;
}

/* Weights to cumulative shares. */
static int set_shares(struct dataset *d, const struct dataset_source *from, struct err *e)
{
    double sum = 0, at = 0;

    for (size_t i = 0; i < d->n_sources; i++)
        sum += from[i].weight;
    for (size_t i = 0; i < d->n_sources; i++) {
        const struct source *s = &d->sources[i];

        at += sum > 0 ? from[i].weight / sum : (double)(s->end - s->first) / (double)d->n_tokens;
        d->sources[i].weight = at;
    }
    if (!(sum < 1e300))
        return err_set(e, WATT_EINVAL, "the weights of the data add up to %g", sum);
    return 0;
}

static int make_buffers(struct dataset *d, struct err *e)
{
    struct dataset_batch *b = &d->b;

    b->stream_rows = mem_array(d->o.max_streams, sizeof *b->stream_rows);
    b->token = mem_array(d->o.max_rows, sizeof *b->token);
    b->target = mem_array(d->o.max_rows, sizeof *b->target);
    b->weight = mem_array(d->o.max_rows, sizeof *b->weight);
    d->ids = mem_array((size_t)d->o.ctx + 1, sizeof *d->ids);
    d->marks = mem_array((size_t)d->o.ctx + 1, 1);
    return b->stream_rows && b->token && b->target && b->weight && d->ids && d->marks
               ? 0 : err_set(e, WATT_ENOMEM, "out of memory for batches of %" PRIu32 " rows",
                             d->o.max_rows);
}

int dataset_open(struct dataset **out, const struct dataset_source *sources, size_t n,
                 const struct dataset_opts *o, struct err *e)
{
    struct dataset *d;
    int rc = 0;

    if (n == 0 || n > DATASET_MAX_SOURCES)
        return err_set(e, WATT_EINVAL, "%zu sources of data, expected 1 to %u", n,
                       DATASET_MAX_SOURCES);
    if (o->ctx == 0 || o->ctx > (1u << 24) || o->max_rows < o->ctx || o->max_rows > (1u << 28) ||
        o->max_streams == 0 || !(o->held >= 0 && o->held < 1))
        return err_set(e, WATT_EINVAL, "batches of %" PRIu32 " rows in %" PRIu32 " sequences of up "
                       "to %" PRIu32 ", %g held back", o->max_rows, o->max_streams, o->ctx, o->held);
    d = mem_calloc(1, sizeof *d);
    if (!d)
        return err_set(e, WATT_ENOMEM, "out of memory for the data");
    d->o = *o;
    d->sources = mem_calloc(n, sizeof *d->sources);
    if (!d->sources)
        rc = err_set(e, WATT_ENOMEM, "out of memory for the data");
    for (; rc == 0 && d->n_sources < n; d->n_sources++)
        rc = open_source(d, &d->sources[d->n_sources], &sources[d->n_sources], e);
    if (rc == 0)
        rc = set_shares(d, sources, e);
    if (rc == 0)
        rc = make_buffers(d, e);
    if (rc < 0) {
        dataset_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void dataset_close(struct dataset *d)
{
    if (!d)
        return;
    mem_free(d->b.stream_rows);
    mem_free(d->b.token);
    mem_free(d->b.target);
    mem_free(d->b.weight);
    mem_free(d->ids);
    mem_free(d->marks);
    mem_free(d->sources);
    mem_free(d);
}
