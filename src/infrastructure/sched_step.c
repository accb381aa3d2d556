/* sched_step.c: one step: end what is over, admit, propose, plan rows, run, draw, settle. */
#include <string.h>

#include "base/mem.h"
#include "infrastructure/sched_internal.h"

/* ---- ending and admitting ---- */

static bool late(const struct req *r, uint64_t now)
{
    return r->o.deadline_ns != 0 && now >= r->o.deadline_ns;
}

/* Ends cancelled and late requests. Looks through them only when there is a reason to. */
static void reap(struct sched *s, uint64_t now)
{
    uint64_t next = 0;

    if (!s->any_cancelled && (s->next_deadline == 0 || now < s->next_deadline))
        return;
    s->any_cancelled = false;
    s->next_deadline = 0;
    for (uint32_t i = 0; i < s->spec.max_reqs; i++) {
        struct req *r = &s->reqs[i];

        if (r->state == REQ_FREE)
            continue;
        if (r->cancelled)
            req_finish(s, r, SCHED_CANCELLED, NULL);
        else if (late(r, now))
            req_finish(s, r, SCHED_LATE, NULL);
        else if (r->o.deadline_ns && (next == 0 || r->o.deadline_ns < next))
            next = r->o.deadline_ns;
    }
    if (next && (s->next_deadline == 0 || next < s->next_deadline))
        s->next_deadline = next;    /* a client may have submitted meanwhile */
}

static void begin_seq(struct sched *s, struct req *r, uint32_t seat)
{
    r->at = (struct prefix_at){ 0, 0 };
    kv_seq_init(&r->seq, s->tables + (size_t)seat * s->max_pages,
                s->n_marks ? &s->marks[seat] : NULL, s->n_marks);
}

/* Tokens of prompts (or of what a preempted request has to compute again) that have a seat. */
static uint64_t tokens_to_fill(const struct sched *s)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct req *r = req_at(s, s->running[i]);

        n += r->n_tokens > r->seq.len + 1 ? r->n_tokens - r->seq.len : 0;
    }
    return n;
}

/* Pages that a step may add to an answer. */
static uint32_t growth(const struct sched *s)
{
    return s->spec.block > 0 ? pages_for(s, s->spec.block) : 1;
}

/* Everybody who runs, and one more, can grow. */
static bool room_for(const struct sched *s, const struct req *r, uint32_t n_tokens)
{
    const struct kv *kv = s->spec.kv;
    const struct kv_need need = kv_seq_need(kv, &r->seq, n_tokens);

    if (kv_page_bytes(kv) > 0 &&
        need.pages + (uint64_t)growth(s) * (s->n_running + 1) >
            (uint64_t)kv_n_free(kv) + kv_n_cached(kv))
        return false;
    return need.slots <= kv_n_free_slots(kv) + kv_n_cached_slots(kv);
}

/* Seats a waiting request when there is room; its cached beginning is already its own then. */
static bool admit(struct sched *s, struct req *r, bool fair)
{
    uint32_t seat;

    if (s->n_free_seats == 0)
        return false;
    seat = s->free_seats[s->n_free_seats - 1];
    begin_seq(s, r, seat);
    if (req_reads_cache(s, r))
        prefix_match(s->spec.prefix, &r->o.space, r->tokens, r->n_tokens - 1, &r->seq,
                     &r->at);
    if (s->n_running > 0 && !room_for(s, r, r->n_tokens - r->seq.len)) {
        kv_seq_reset(s->spec.kv, &r->seq);
        return false;
    }
    queue_remove(s, r);
    if (fair)
        r->level = SCHED_LEVEL_FAIR;
    if (r->result.times.admitted == 0) {
        r->result.n_cached = r->seq.len;
        s->stats.n_cached_tokens += r->seq.len;
        s->stats.n_prompt_tokens += r->n_prompt;
    }
    req_run(s, r, seat);
    s->n_admitted++;
    if (r->o.client->progress)
        r->o.client->progress(r->o.ctx, r->seq.len, r->n_prompt, r->result.n_cached);
    return true;
}

static void admit_all(struct sched *s)
{
    for (;;) {
        bool fair;
        struct req *r = queue_next(s, &fair), *last;

        s->filling = tokens_to_fill(s);
        /* who has a seat keeps its place: more than the next step can use wait in the queue,
         * where whoever comes may still go before them */
        if (!r || s->blocked || s->filling >= s->spec.max_rows ||
            (s->limit_running > 0 && s->n_running >= s->limit_running))
            return;
        if (admit(s, r, fair))
            continue;
        last = s->n_running ? req_at(s, s->running[s->n_running - 1]) : NULL;
        if (!last || last->level >= r->level) {
            s->blocked = true;
            return;
        }
        req_preempt(s, last);   /* a higher priority takes the place of a lower one */
    }
}

/* ---- proposals ---- */

static uint32_t pending(const struct req *r)
{
    return r->n_tokens - r->seq.len;
}

/* Is all before its next tokens in? */
static bool decodes(const struct sched *s, const struct req *r)
{
    if (in_blocks(s, r))
        return r->seq.len >= final_len(s, r);
    return r->prompt_done && pending(r) == 1;
}

static int32_t *drafts_of(const struct sched *s, const struct req *r)
{
    return s->drafts + (size_t)r->seat * (s->spec.max_draft + 1);
}

static int32_t *drawn_of(const struct sched *s, const struct req *r)
{
    return s->drawn + (size_t)r->seat * (s->spec.max_draft + 1);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Ids outside the vocabulary and what lies beyond the answer's end are not proposals. */
static void take_proposal(const struct sched *s, const struct sched_proposal *p, struct req *r)
{
    uint32_t n = 0;

    while (n < p->n_draft && n < p->room && p->draft[n] >= 0 &&
           (uint32_t)p->draft[n] < s->spec.n_vocab)
        n++;
    r->n_draft = n;
}

static void propose(struct sched *s)
{
    uint32_t spare = least(s->spec.max_rows, s->spec.max_out - 1) - s->n_running, n = 0;

    for (uint32_t i = 0; i < s->n_running; i++) {
        struct req *r = req_at(s, s->running[i]);
        const uint32_t left = r->o.max_new - r->result.n_drawn;
        const uint32_t room = left == 0 ? 0 : least(least(least(r->o.max_draft, s->spec.max_draft),
                                                          left - 1), spare);

        r->n_draft = 0;
        if (!s->spec.model.propose || room == 0 || !decodes(s, r) || r->o.want_rows ||
            in_blocks(s, r))
            continue;
        s->proposals[n++] = (struct sched_proposal){
            .client_ctx = r->o.ctx, .request = req_id(s, r), .seat = r->seat,
            .tokens = r->tokens, .n_tokens = r->n_tokens, .room = room, .draft = drafts_of(s, r),
        };
        s->planned[n - 1] = s->running[i];
        spare -= room;
    }
    if (n > 0)
        s->spec.model.propose(s->spec.model.ctx, s->proposals, n);
    for (uint32_t i = 0; i < n; i++)
        take_proposal(s, &s->proposals[i], req_at(s, s->planned[i]));
}

/* ---- planning ---- */

struct budget {
    uint32_t prompt_rows, out;
    uint32_t rows;              /* blocks: of the step */
    bool     prompted;          /* blocks: the step has a prompt */
};

static struct budget step_budget(const struct sched *s)
{
    uint32_t rows = 0, outs = 0;
    struct budget b;

    for (uint32_t i = 0; i < s->n_running; i++) {
        const struct req *r = req_at(s, s->running[i]);

        rows += decodes(s, r) ? 1 + r->n_draft : 0;
        outs += 1 + r->n_draft;
    }
    if (s->spec.block > 0)
        return (struct budget){ .prompt_rows = rows > 0 ? s->spec.mixed_rows : s->spec.max_rows,
                                .out = s->spec.max_out, .rows = s->spec.max_rows };
    b = (struct budget){ .prompt_rows = s->spec.max_rows - rows };
    if (rows > 0 && b.prompt_rows > s->spec.mixed_rows)
        b.prompt_rows = s->spec.mixed_rows;
    if (s->limit_rows > 0 && b.prompt_rows > s->limit_rows)
        b.prompt_rows = s->limit_rows;
    b.out = s->spec.max_out - outs;
    return b;
}

/* Where a chunk of a prompt should end so that its fixed state can be kept. */
static uint32_t cut_for_snapshot(const struct sched *s, const struct req *r, uint32_t n)
{
    const uint32_t page = kv_page_tokens(s->spec.kv), from = r->seq.len;
    uint32_t cut = (r->n_tokens - 1) / page * page;

    if (s->n_marks == 0 || !req_fills_cache(s, r))
        return n;
    if (s->spec.snapshot_tokens) {
        const uint32_t next = (from / s->spec.snapshot_tokens + 1) * s->spec.snapshot_tokens;

        cut = next < cut ? next : cut;
    }
    return from < cut && cut < from + n ? cut - from : n;
}

/* Of the next n rows, those of the prompt that the client wants and has not seen. */
static uint32_t rows_to_show(const struct req *r, uint32_t n)
{
    const uint32_t until = least(r->seq.len + n, r->n_prompt - (r->o.max_new > 0 ? 1 : 0));
    const uint32_t from = r->seq.len > r->n_shown ? r->seq.len : r->n_shown;

    return r->o.want_rows && until > from ? until - from : 0;
}

static uint32_t chunk(const struct sched *s, struct req *r, struct budget *b)
{
    uint32_t n = pending(r);

    if (decodes(s, r))
        return 1;
    if (s->spec.whole)
        return n <= b->prompt_rows || (s->spec.block > 0 && !b->prompted) ? n : 0;
    n = cut_for_snapshot(s, r, least(n, b->prompt_rows));
    return rows_to_show(r, n) > b->out ? b->out : n;
}

/* Takes room for n rows, if need be from the cache or from those who rank behind. */
static bool take_room(struct sched *s, struct req *r, uint32_t rank, uint32_t n)
{
    while (!kv_seq_reserve(s->spec.kv, &r->seq, n)) {
        const struct kv_need need = kv_seq_need(s->spec.kv, &r->seq, n);

        if (s->spec.prefix && prefix_make_room(s->spec.prefix, need.pages, need.slots))
            continue;
        if (rank + 1 >= s->n_running)
            return false;
        req_preempt(s, req_at(s, s->running[s->n_running - 1]));
    }
    return true;
}

static void add_out(struct sched *s, struct req *r, uint32_t row)
{
    s->out_row[s->batch.n_out++] = row;
    r->n_out++;
}

static void add_stream(struct sched *s, struct req *r, uint32_t first)
{
    s->streams[s->batch.n_streams++] = (struct stream){
        .first_row = first, .n_rows = r->n_rows, .n_past = r->seq.len, .pages = r->seq.pages,
        .fixed = r->seq.slot == KV_NO_SLOT ? NULL : kv_slot(s->spec.kv, r->seq.slot),
        .adapter = r->o.adapter, .adapter_scale = r->o.adapter_scale,
    };
    s->planned[s->n_planned++] = req_index(s, r);
}

static bool wants_first(const struct req *r, uint32_t pos)
{
    return pos == 0 && r->o.want_first && r->o.max_new == 0 && !r->o.want_rows;
}

static void add_rows(struct sched *s, struct req *r, uint32_t n)
{
    struct batch *b = &s->batch;
    const uint32_t first = b->n_rows, from = r->seq.len;
    const bool at_end = n == pending(r);
    const bool wants_last = at_end && (r->o.max_new > 0 || (!r->o.want_rows && !r->o.want_first));

    r->n_rows = n + r->n_draft;
    r->n_show = rows_to_show(r, n);
    r->first_out = s->spec.pooled ? b->n_streams : b->n_out;
    r->n_out = 0;
    r->draws = at_end && r->o.max_new > 0;
    memcpy(s->token + first, r->tokens + from, n * sizeof *s->token);
    memcpy(s->token + first + n, drafts_of(s, r), r->n_draft * sizeof *s->token);
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const bool show = r->n_show > 0 && from + i >= r->n_shown && from + i < r->n_shown + r->n_show;

        s->row_stream[b->n_rows] = b->n_streams;
        s->type[b->n_rows] = r->o.second_from > 0 && from + i >= r->o.second_from;
        if (!s->spec.pooled && (show || (wants_last && i + 1 >= n) || wants_first(r, from + i)))
            add_out(s, r, b->n_rows);
        b->n_rows++;
    }
    add_stream(s, r, first);
}

/* ---- planning blocks ---- */

/* Where the stretch ends that is run for good at once: the prompt, then block by block. What sees
 * what is the same then, however often a sequence is computed. */
static uint32_t stretch_end(const struct sched *s, const struct req *r)
{
    const uint32_t len = r->seq.len + (s->spec.shifted ? 1 : 0);
    uint64_t end = r->n_prompt;

    if (len >= r->n_prompt)
        end += ((uint64_t)(len - r->n_prompt) / s->spec.block + 1) * s->spec.block;
    return end < r->n_tokens ? (uint32_t)end : r->n_tokens;
}

static void begin_block(const struct sched *s, struct req *r)
{
    r->n_block = r->n_masks = least(s->spec.block, r->o.max_new - r->result.n_drawn);
    r->block_step = 0;
    for (uint32_t i = 0; i < r->n_block; i++)
        r->tokens[r->n_tokens + i] = s->spec.mask;
}

/* Rows from the sequence's end on; results of those whose tokens are masks. */
static void add_block_rows(struct sched *s, struct req *r, uint32_t n)
{
    struct batch *b = &s->batch;
    const uint32_t first = b->n_rows, from = r->seq.len, shift = s->spec.shifted ? 1 : 0;

    r->n_rows = n;
    r->n_show = 0;
    r->first_out = b->n_out;
    r->n_out = 0;
    r->draws = r->denoises;
    memcpy(s->token + first, r->tokens + from, n * sizeof *s->token);
    memset(s->type + first, 0, n * sizeof *s->type);
    for (uint32_t i = 0; i < n; i++)
        s->row_stream[first + i] = b->n_streams;
    for (uint32_t i = 0; r->denoises && i < r->n_block; i++)
        if (r->tokens[r->n_tokens + i] == s->spec.mask)
            add_out(s, r, first + (r->n_tokens - from) - shift + i);
    b->n_rows += n;
    add_stream(s, r, first);
}

/* A prompt, a finished block, or the block under way: each in one piece, or not in this step. One
 * prompt may pass the bound of those beside answers, or it would never come in. */
static void plan_block(struct sched *s, struct req *r, uint32_t rank, struct budget *b)
{
    const bool prompt = !r->prompt_done && !decodes(s, r);
    uint32_t n;

    r->denoises = decodes(s, r);
    if (r->denoises && r->n_block == 0)
        begin_block(s, r);
    n = r->denoises ? r->n_tokens + r->n_block - r->seq.len : stretch_end(s, r) - r->seq.len;
    if (n > b->rows || (r->denoises && r->n_masks > b->out) ||
        (prompt && b->prompted && n > b->prompt_rows))
        return;
    if (!take_room(s, r, rank, n))
        return;
    b->rows -= n;
    b->out -= r->denoises ? r->n_masks : 0;
    if (prompt) {
        b->prompted = true;
        b->prompt_rows -= least(n, b->prompt_rows);
    }
    add_block_rows(s, r, n);
}

static void plan_one(struct sched *s, struct req *r, uint32_t rank, struct budget *b)
{
    uint32_t n;

    if (in_blocks(s, r)) {
        plan_block(s, r, rank, b);
        return;
    }
    if (!decodes(s, r) && b->prompt_rows > 0 && req_reads_cache(s, r)) {
        const uint32_t had = r->seq.len;

        prefix_extend(s->spec.prefix, &r->o.space, r->tokens, r->n_tokens - 1, &r->seq, &r->at);
        if (!r->prompt_done) {
            r->result.n_cached += r->seq.len - had;
            s->stats.n_cached_tokens += r->seq.len - had;
        }
    }
    n = chunk(s, r, b);
    if (n == 0 || (s->spec.block > 0 && n > b->rows))
        return;
    if (r->n_draft > 0)
        kv_seq_mark(s->spec.kv, &r->seq);
    if (!take_room(s, r, rank, n + r->n_draft))
        return;
    if (!decodes(s, r))
        b->prompt_rows -= least(n, b->prompt_rows);
    b->prompted = true;
    b->rows -= least(n, b->rows);
    b->out -= rows_to_show(r, n);
    add_rows(s, r, n);
}

static void plan(struct sched *s)
{
    struct budget b = step_budget(s);

    s->batch = (struct batch){ .token = s->token, .type = s->type, .row_stream = s->row_stream,
                               .streams = s->streams, .out_row = s->out_row };
    s->n_planned = 0;
    for (uint32_t i = 0; i < s->n_running; i++)     /* n_running may shrink on the way */
        plan_one(s, req_at(s, s->running[i]), i, &b);
}

/* ---- drawing ---- */

static const float *row_of(const struct sched *s, const struct req *r, uint32_t i)
{
    return s->out + (size_t)(r->first_out + i) * s->spec.width;
}

static void denoise_one(const struct sched *s, struct req *r)
{
    const int32_t left = r->o.client->denoise(r->o.ctx, r->tokens + r->n_tokens, r->n_block,
                                              r->block_step++, row_of(s, r, 0));

    r->draw_failed = left < 0 || (uint32_t)left >= r->n_masks;
    if (!r->draw_failed)
        r->n_masks = (uint32_t)left;
}

/* Draws for one request: the token after the last known one, and, as long as the proposals are
 * what was drawn, the tokens after those. */
static void draw_one(void *arg, uint32_t i)
{
    const struct sched *s = arg;
    struct req *r = req_at(s, s->drawing[i]);
    const uint32_t first = r->n_out - r->n_draft - 1;
    const int32_t *draft = drafts_of(s, r);
    int32_t *drawn = drawn_of(s, r);

    r->n_new = 0;
    r->draw_failed = false;
    if (in_blocks(s, r)) {
        denoise_one(s, r);
        return;
    }
    for (uint32_t k = 0; k <= r->n_draft; k++) {
        const int32_t id = r->o.client->draw(r->o.ctx, row_of(s, r, first + k));

        if (id < 0 || (uint32_t)id >= s->spec.n_vocab) {
            r->draw_failed = true;
            return;
        }
        drawn[r->n_new++] = id;
        if (k == r->n_draft || draft[k] != id)
            return;
    }
}

static void draw_all(struct sched *s)
{
    if (s->spec.model.each && s->n_drawing > 1)
        s->spec.model.each(s->spec.model.ctx, s->n_drawing, draw_one, s);
    else
        for (uint32_t i = 0; i < s->n_drawing; i++)
            draw_one(s, i);
}

/* Followers of a prompt that is in take seats and share its memory and its last row. Those that
 * find no seat now wait like others. */
static void seat_followers(struct sched *s, struct req *r)
{
    while (r->follower != SCHED_NONE) {
        struct req *f = req_at(s, r->follower);
        uint32_t seat;

        if (f->cancelled || s->n_free_seats == 0 || !room_for(s, f, 0))
            break;
        seat = s->free_seats[s->n_free_seats - 1];
        begin_seq(s, f, seat);
        CHECK(kv_seq_fork(s->spec.kv, &f->seq, &r->seq, r->seq.len));
        r->follower = f->next;
        s->n_attached--;
        f->prompt_done = true;
        f->result.n_cached = f->n_prompt;
        f->first_out = r->first_out;
        f->n_out = r->n_out;
        f->n_draft = f->n_rows = 0;
        f->draws = !in_blocks(s, f);
        req_run(s, f, seat);
        if (f->draws)
            s->drawing[s->n_drawing++] = req_index(s, f);
    }
    req_release_followers(s, r);
}

/* ---- settling ---- */

/* Everything up to the last drawn token may be in the sequence; that one is not yet. */
static void trim(struct sched *s, struct req *r)
{
    const uint32_t keep = r->n_tokens - 1;

    if (r->seq.len > keep)
        (void)kv_seq_truncate(s->spec.kv, &r->seq, kv_seq_reach(s->spec.kv, &r->seq, keep));
}

static void take_tokens(struct sched *s, struct req *r, uint64_t now)
{
    const int32_t *drawn = drawn_of(s, r);
    bool ended = false;

    if (in_blocks(s, r) && !r->draw_failed) {
        if (r->n_masks > 0)
            return;
        drawn = r->tokens + r->n_tokens;
        r->n_new = r->n_block;
        r->n_block = 0;
    }
    r->result.n_drafted += r->n_draft;
    s->stats.n_drafted += r->n_draft;
    for (uint32_t i = 0; i < r->n_new && !ended; i++) {
        r->tokens[r->n_tokens++] = drawn[i];
        r->result.n_drawn++;
        r->result.n_accepted += i > 0 && r->n_draft > 0;
        s->stats.n_accepted += i > 0 && r->n_draft > 0;
        s->stats.n_drawn++;
        if (r->result.times.first_token == 0)
            r->result.times.first_token = now;
        r->result.times.last_token = now;
        ended = r->o.client->took(r->o.ctx, drawn[i]);
    }
    trim(s, r);
    if (ended) {
        req_finish(s, r, SCHED_STOPPED, NULL);
    } else if (r->draw_failed) {
        struct err e = { 0 };

        r->o.client->failed(r->o.ctx, &e);
        req_finish(s, r, SCHED_FAILED, &e);
    } else if (r->result.n_drawn == r->o.max_new) {
        req_finish(s, r, SCHED_LENGTH, NULL);
    }
}

/* Rows of the prompt go to the client. */
static void show_rows(const struct sched *s, struct req *r)
{
    for (uint32_t i = 0; i < r->n_show; i++)
        r->o.client->prompt_row(r->o.ctx, r->n_shown++, row_of(s, r, i));
}

/* What was run for good stays; the block under way is run anew. */
static void advance_block(struct sched *s, struct req *r)
{
    const uint32_t keep = r->denoises ? r->seq.len
                                      : r->seq.len + r->n_rows - (s->spec.shifted ? 1 : 0);

    kv_seq_advance(&r->seq, r->n_rows);
    CHECK(kv_seq_truncate(s->spec.kv, &r->seq, keep));
    r->prompt_done |= r->denoises;
}

/* The batch has run: sequences are longer, pages may be shared. */
static void advance(struct sched *s, struct req *r)
{
    const bool fills = !decodes(s, r);

    if (!fills || r->prompt_done)
        r->n_answer_rows += r->n_rows;
    account_charge(s, r, fills ? r->n_rows : SCHED_ANSWER_COST * r->n_rows);
    if (in_blocks(s, r)) {
        advance_block(s, r);
        if (!fills)
            return;
    } else {
        kv_seq_advance(&r->seq, r->n_rows);
    }
    if (!fills)
        return;
    if (req_fills_cache(s, r))
        prefix_insert(s->spec.prefix, &r->o.space, r->tokens, &r->seq, false, &r->at);
    if (r->o.client->progress && !r->prompt_done)
        r->o.client->progress(r->o.ctx, r->seq.len < final_len(s, r)
                              ? least(r->seq.len, r->n_prompt) : r->n_prompt, r->n_prompt,
                              r->result.n_cached);
    show_rows(s, r);
    r->prompt_done |= r->seq.len >= final_len(s, r);
}

static void settle(struct sched *s, uint64_t now)
{
    s->n_drawing = 0;
    for (uint32_t i = 0; i < s->n_planned; i++) {
        struct req *r = req_at(s, s->planned[i]);
        const bool had_prompt = r->prompt_done;

        advance(s, r);
        if (r->draws)
            s->drawing[s->n_drawing++] = s->planned[i];
        if (!had_prompt && r->prompt_done)
            seat_followers(s, r);
    }
    draw_all(s);
    for (uint32_t i = 0; i < s->n_drawing; i++)
        take_tokens(s, req_at(s, s->drawing[i]), now);
    for (uint32_t i = 0; i < s->n_planned; i++) {
        struct req *r = req_at(s, s->planned[i]);

        if (r->state != REQ_RUNNING || r->o.max_new > 0 || r->seq.len < r->n_tokens)
            continue;
        if (!r->o.want_rows)
            r->o.client->prompt_row(r->o.ctx, r->n_tokens - 1, row_of(s, r, 0));
        req_finish(s, r, SCHED_LENGTH, NULL);
    }
}

/* ---- the step ---- */

static void note(struct sched *s, uint64_t start, uint64_t end)
{
    const double rate = (double)s->batch.n_rows / (double)(end > start ? end - start : 1);
    uint64_t prompt = 0;

    s->rows_per_ns = s->rows_per_ns > 0 ? 0.9 * s->rows_per_ns + 0.1 * rate : rate;
    for (uint32_t i = 0; i < s->n_planned; i++) {
        const struct req *r = req_at(s, s->planned[i]);

        s->shares[i] = (struct sched_share){
            .account = r->o.account, .client_ctx = r->o.ctx,
            .n_prompt_rows = r->prompt_done ? 0 : r->n_rows,
            .n_answer_rows = r->prompt_done ? r->n_rows : 0,
            .n_past = r->seq.len,       /* not advanced yet */
        };
        prompt += s->shares[i].n_prompt_rows;
    }
    s->stats.n_steps++;
    s->stats.n_rows += s->batch.n_rows;
    s->stats.prompt_ns += (end - start) * prompt / s->batch.n_rows;
    s->stats.answer_ns += (end - start) * (s->batch.n_rows - prompt) / s->batch.n_rows;
    if (s->spec.model.ran)
        s->spec.model.ran(s->spec.model.ctx, s->shares, s->n_planned, start, end);
}

static void fail_batch(struct sched *s, struct err *e)
{
    for (uint32_t i = 0; i < s->n_planned; i++)
        req_finish(s, req_at(s, s->planned[i]), SCHED_FAILED, e);
}

int sched_step(struct sched *s)
{
    const uint64_t start = sched_now(s);
    struct err e = { 0 };
    uint64_t end;

    reap(s, start);
    admit_all(s);
    if (s->n_running == 0)
        return 0;
    propose(s);
    plan(s);
    CHECK(s->n_planned > 0);
    if (s->spec.model.step(s->spec.model.ctx, &s->batch, s->out, &e) < 0) {
        fail_batch(s, &e);
        return 1;
    }
    end = sched_now(s);
    note(s, start, end);
    settle(s, end);
    return 1;
}
