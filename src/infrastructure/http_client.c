/* http_client.c: see http_client.h. A request is an easy handle of libcurl's multi interface. */
#include "infrastructure/http_client.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"

#define DEFAULT_REDIRECTS 5u
#define DEFAULT_BODY    ((size_t)64 << 20)
#define ERROR_BODY      ((size_t)64 << 10)
#define DEFAULT_CONNECT 15000u
#define DEFAULT_STALL   60000u
#define MAX_URL         8192u
#define POLL_NS         UINT64_C(200000000)
#define CLIENT_NAME     "watt/" WATT_VERSION

struct transfer {
    struct http_client *c;
    struct transfer    *next, *prev;
    CURL               *easy;
    struct curl_slist  *headers;
    struct http_client_request  r;
    struct http_client_response a;
    struct str          line;           /* of a stream, not yet complete */
    struct str          event, data;    /* of a server-sent event, likewise */
    uint64_t            n_stream;
    bool                has_data, headed, after_cr;
    char                why[CURL_ERROR_SIZE];
    int                 rc;             /* ours, when a callback ended it */
    struct err          e;
};

struct http_client {
    CURLM           *multi;
    struct transfer *list;
    char            *ca_file;
    unsigned         n;
    bool             called;            /* a callback came */
};

/* ---- the answer's head ---- */

static void copy_text(char *to, size_t cap, const char *from, size_t n)
{
    if (n >= cap)
        n = 0;                          /* half of one would mislead */
    memcpy(to, from, n);
    to[n] = '\0';
}

static void read_content_range(struct http_client_response *a, const char *v)
{
    char *end;

    if (strncasecmp(v, "bytes ", 6) != 0 || v[6] < '0' || v[6] > '9')
        return;
    a->range_first = strtoull(v + 6, &end, 10);
    end = strchr(end, '/');
    if (end && end[1] >= '0' && end[1] <= '9')
        a->range_total = strtoull(end + 1, NULL, 10);
}

static void reset_head(struct http_client_response *a)
{
    a->content_type[0] = a->etag[0] = a->retry_after[0] = '\0';
    a->length = a->range_first = a->range_total = UINT64_MAX;
}

static void read_header(struct http_client_response *a, const char *name, size_t n_name,
                        const char *v, size_t n)
{
    static const struct { const char *name; size_t at, cap; } texts[] = {
#define TEXT(name, field) { name, offsetof(struct http_client_response, field), \
                            sizeof((struct http_client_response *)0)->field }
        TEXT("content-type", content_type), TEXT("etag", etag), TEXT("retry-after", retry_after),
        TEXT("location", location), TEXT("x-repo-commit", commit),
#undef TEXT
    };
    char number[96];

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strlen(texts[i].name) == n_name && strncasecmp(texts[i].name, name, n_name) == 0)
            copy_text((char *)a + texts[i].at, texts[i].cap, v, n);
    copy_text(number, sizeof number, v, n);
    if (n_name == 14 && strncasecmp(name, "content-length", 14) == 0 && number[0] >= '0' &&
        number[0] <= '9')
        a->length = strtoull(number, NULL, 10);
    if (n_name == 13 && strncasecmp(name, "content-range", 13) == 0)
        read_content_range(a, number);
}

/* Each answer of a chain of redirects begins with its status line. */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    const size_t total = size * n;
    const char *colon = memchr(data, ':', total);
    size_t from, to = total;

    if (total > 5 && strncmp(data, "HTTP/", 5) == 0) {
        reset_head(&t->a);
        return total;
    }
    if (!colon)
        return total;
    from = (size_t)(colon - data) + 1;
    while (from < to && (data[from] == ' ' || data[from] == '\t'))
        from++;
    while (to > from && (unsigned char)data[to - 1] <= ' ')
        to--;
    read_header(&t->a, data, (size_t)(colon - data), data + from, to - from);
    return total;
}

/* ---- the answer's body ---- */

static int end_with(struct transfer *t, int code, const char *what)
{
    if (t->rc == 0)
        t->rc = err_set(&t->e, code, "%.300s: %s", t->r.url, what);
    return t->rc;
}

static int asked(struct transfer *t, int answer)
{
    t->c->called = true;
    return answer == 0 ? 0 : end_with(t, WATT_ECANCEL, "stopped");
}

/* A field of a server-sent event (WHATWG HTML, 9.2.6). */
static int take_event_line(struct transfer *t, struct sv line)
{
    const char *colon = line.len ? memchr(line.data, ':', line.len) : NULL;
    const size_t n = colon ? (size_t)(colon - line.data) : line.len;
    struct sv value = { "", 0 };
    int rc = 0;

    if (line.len == 0) {
        if (t->has_data)
            rc = asked(t, t->r.on_event(t->r.ctx, (struct sv){ str_cstr(&t->event), t->event.len },
                                        (struct sv){ str_cstr(&t->data), t->data.len }));
        str_reset(&t->event);
        str_reset(&t->data);
        t->has_data = false;
        return rc;
    }
    if (colon) {
        value = (struct sv){ colon + 1, line.len - n - 1 };
        if (value.len && *value.data == ' ')
            value = (struct sv){ value.data + 1, value.len - 1 };
    }
    if (n == 4 && memcmp(line.data, "data", 4) == 0) {
        if (t->has_data)
            str_putc(&t->data, '\n');
        str_append(&t->data, value.data, value.len);
        t->has_data = true;
    } else if (n == 5 && memcmp(line.data, "event", 5) == 0) {
        str_reset(&t->event);
        str_append(&t->event, value.data, value.len);
    }
    return str_ok(&t->data) && str_ok(&t->event) ? 0 : end_with(t, WATT_ELIMIT,
                                                                "an event is too long");
}

static int end_line(struct transfer *t)
{
    const struct sv line = { str_cstr(&t->line), t->line.len };
    const int rc = t->r.on_event ? take_event_line(t, line) : asked(t, t->r.on_line(t->r.ctx, line));

    str_reset(&t->line);
    return rc;
}

/* Lines end in LF, CRLF or CR. */
static int take_lines(struct transfer *t, const char *data, size_t n)
{
    int rc = 0;

    while (rc == 0 && n > 0) {
        size_t k = 0;

        if (t->after_cr && *data == '\n') {
            data++;
            n--;
            t->after_cr = false;
            continue;
        }
        t->after_cr = false;
        while (k < n && data[k] != '\n' && data[k] != '\r')
            k++;
        str_append(&t->line, data, k);
        if (!str_ok(&t->line))
            return end_with(t, WATT_ELIMIT, "a line is too long");
        if (k == n)
            return 0;
        t->after_cr = data[k] == '\r';
        rc = end_line(t);
        data += k + 1;
        n -= k + 1;
    }
    return rc;
}

static bool streams(const struct transfer *t)
{
    return t->a.status < 300 && (t->r.on_data || t->r.on_line || t->r.on_event);
}

static int begin_body(struct transfer *t)
{
    long status = 0;

    if (t->headed)
        return 0;
    t->headed = true;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->a.status = (int)status;
    return t->r.on_head ? asked(t, t->r.on_head(t->r.ctx, &t->a)) : 0;
}

static int keep(struct transfer *t, const char *data, size_t n)
{
    const size_t max = t->a.status >= 400 ? ERROR_BODY : t->r.max_body ? t->r.max_body : DEFAULT_BODY;

    if (t->a.status >= 400 && n > max - t->a.body.len)
        n = max - t->a.body.len;
    if (n > max - t->a.body.len)
        return end_with(t, WATT_ELIMIT, "the answer is larger than it may be");
    str_append(&t->a.body, data, n);
    return str_ok(&t->a.body) ? 0 : end_with(t, WATT_ENOMEM, "no memory for the answer");
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    const size_t total = size * n;
    int rc = begin_body(t);

    if (rc == 0 && t->a.first_byte_ns == 0)
        t->a.first_byte_ns = clock_mono_ns() - t->a.start_ns;
    if (rc == 0 && !streams(t))
        rc = keep(t, data, total);
    else if (rc == 0) {
        t->n_stream += total;
        if (t->r.max_stream && t->n_stream > t->r.max_stream)
            rc = end_with(t, WATT_ELIMIT, "the answer is larger than it may be");
        else
            rc = t->r.on_data ? asked(t, t->r.on_data(t->r.ctx, data, total))
                              : take_lines(t, data, total);
    }
    return rc == 0 ? total : 0;         /* libcurl takes less for an error */
}

static int on_progress(void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total,
                       curl_off_t ul)
{
    struct transfer *t = arg;

    (void)dl_total;
    (void)dl;
    (void)ul_total;
    (void)ul;
    if (t->r.poll && t->rc == 0 && t->r.poll(t->r.ctx) != 0)
        (void)end_with(t, WATT_ECANCEL, "stopped");
    return t->rc != 0;
}

/* ---- a request ---- */

/* A name or value with a line end in it would be another header. */
static bool one_line(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' && *s != '\t')
            return false;
    return true;
}

static int add_header(struct transfer *t, struct err *e, const char *name, const char *value)
{
    struct curl_slist *more;
    struct str s;

    str_init(&s, 0);
    str_printf(&s, "%s%s", name, value);
    more = str_ok(&s) && one_line(str_cstr(&s)) ? curl_slist_append(t->headers, str_cstr(&s)) : NULL;
    if (more)
        t->headers = more;
    else
        (void)err_set(e, WATT_EINVAL, "%.200s: the header '%.40s' can't be sent", t->r.url, name);
    str_deinit(&s);
    return more ? 0 : WATT_EINVAL;
}

static int set_headers(struct transfer *t, struct err *e)
{
    const struct http_client_request *r = &t->r;
    int rc = 0;

    if (r->n_headers > HTTP_CLIENT_MAX_HEADERS)
        return err_set(e, WATT_EINVAL, "%.200s: over %u headers", r->url, HTTP_CLIENT_MAX_HEADERS);
    for (size_t i = 0; rc == 0 && i < r->n_headers; i++)
        rc = add_header(t, e, "", r->headers[i]);
    if (rc == 0 && r->bearer)
        rc = add_header(t, e, "Authorization: Bearer ", r->bearer);
    if (rc == 0 && r->body)
        rc = add_header(t, e, "Content-Type: ", r->content_type ? r->content_type
                                                               : "application/json");
    if (rc == 0 && r->body)
        rc = add_header(t, e, "Expect:", "");   /* no wait for a 100 */
    if (rc == 0 && r->range_bytes && r->if_range)
        rc = add_header(t, e, "If-Range: ", r->if_range);
    return rc;
}

static long milliseconds(uint64_t given, uint64_t otherwise)
{
    const uint64_t v = given ? given : otherwise;

    return v > INT32_MAX ? INT32_MAX : (long)v;
}

static CURLcode set_method(struct transfer *t)
{
    const struct http_client_request *r = &t->r;
    CURLcode rc = CURLE_OK;

    if (r->body) {
        rc = curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
        if (rc == CURLE_OK)
            rc = curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->n_body);
        if (rc == CURLE_OK)
            rc = curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, r->body);
    }
    if (rc == CURLE_OK && r->method && strcmp(r->method, "HEAD") == 0)
        rc = curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
    else if (rc == CURLE_OK && r->method && strcmp(r->method, r->body ? "POST" : "GET") != 0)
        rc = curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, r->method);
    return rc;
}

static CURLcode set_range(struct transfer *t)
{
    char range[64];

    if (t->r.range_bytes == 0)
        return CURLE_OK;
    if (t->r.range_bytes == UINT64_MAX)
        (void)snprintf(range, sizeof range, "%" PRIu64 "-", t->r.range_first);
    else
        (void)snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, t->r.range_first,
                       t->r.range_first + t->r.range_bytes - 1);
    return curl_easy_setopt(t->easy, CURLOPT_RANGE, range);
}

#define SET(option, value) \
    if (rc == CURLE_OK) rc = curl_easy_setopt(t->easy, option, value)

static CURLcode set_bounds(struct transfer *t)
{
    const struct http_client_request *r = &t->r;
    const long stall = milliseconds(r->stall_ms, DEFAULT_STALL);
    const bool follow = r->max_redirects != HTTP_CLIENT_NO_REDIRECTS;
    const bool tls = strncasecmp(r->url, "https:", 6) == 0;
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
    SET(CURLOPT_FOLLOWLOCATION, follow ? 1L : 0L);
    SET(CURLOPT_MAXREDIRS, (long)(r->max_redirects && follow ? r->max_redirects
                                                            : DEFAULT_REDIRECTS));
    SET(CURLOPT_POSTREDIR, (long)CURL_REDIR_POST_ALL);
    SET(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(r->connect_ms, DEFAULT_CONNECT));
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, stall < 1000 ? 1L : stall / 1000);
    if (r->total_ms)
        SET(CURLOPT_TIMEOUT_MS, milliseconds(r->total_ms, 0));
    return rc;
}

static CURLcode set_options(struct transfer *t)
{
    CURLcode rc = CURLE_OK;

    SET(CURLOPT_URL, t->r.url);
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_USERAGENT, CLIENT_NAME);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);     /* several connections are several */
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (t->c->ca_file)
        SET(CURLOPT_CAINFO, t->c->ca_file);
    SET(CURLOPT_HTTPHEADER, t->headers);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, t);
    SET(CURLOPT_ERRORBUFFER, t->why);
    if (rc == CURLE_OK)
        rc = set_bounds(t);
    if (rc == CURLE_OK)
        rc = set_method(t);
    return rc == CURLE_OK ? set_range(t) : rc;
}
#undef SET

static void transfer_close(struct transfer *t)
{
    if (!t)
        return;
    if (t->easy)
        curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    http_client_response_deinit(&t->a);
    str_deinit(&t->line);
    str_deinit(&t->event);
    str_deinit(&t->data);
    mem_free(t);
}

static void unlink_transfer(struct transfer *t)
{
    struct http_client *c = t->c;

    if (t->prev)
        t->prev->next = t->next;
    else
        c->list = t->next;
    if (t->next)
        t->next->prev = t->prev;
    c->n--;
    (void)curl_multi_remove_handle(c->multi, t->easy);
}

int http_client_start(struct http_client *c, const struct http_client_request *r, struct err *e)
{
    struct transfer *t;
    CURLcode code;
    int rc;

    if (!r->url || strlen(r->url) > MAX_URL || !one_line(r->url) ||
        (strncasecmp(r->url, "http://", 7) != 0 && strncasecmp(r->url, "https://", 8) != 0))
        return err_set(e, WATT_EINVAL, "%.200s: not the URL of a web server (http://… or https://…)",
                       r->url ? r->url : "");
    t = mem_calloc(1, sizeof *t);
    if (!t)
        return err_set(e, WATT_ENOMEM, "%.200s: request", r->url);
    t->c = c;
    t->r = *r;
    reset_head(&t->a);
    str_init(&t->a.body, 0);
    str_init(&t->line, HTTP_CLIENT_MAX_LINE);
    str_init(&t->event, HTTP_CLIENT_MAX_LINE);
    str_init(&t->data, HTTP_CLIENT_MAX_LINE);
    t->easy = curl_easy_init();
    if (!t->easy) {
        transfer_close(t);
        return err_set(e, WATT_ENOMEM, "%.200s: request", r->url);
    }
    rc = set_headers(t, e);
    code = rc == 0 ? set_options(t) : CURLE_OK;
    if (code != CURLE_OK)
        rc = err_set(e, WATT_EINVAL, "%.200s: %s", r->url, curl_easy_strerror(code));
    if (rc == 0 && curl_multi_add_handle(c->multi, t->easy) != CURLM_OK)
        rc = err_set(e, WATT_ENOMEM, "%.200s: request", r->url);
    if (rc < 0) {
        transfer_close(t);
        return rc;
    }
    t->a.start_ns = clock_mono_ns();
    t->next = c->list;
    if (c->list)
        c->list->prev = t;
    c->list = t;
    c->n++;
    return 0;
}

/* ---- the end of one ---- */

static int rc_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:                  return 0;
    case CURLE_OPERATION_TIMEDOUT:  return WATT_ETIME;
    case CURLE_OUT_OF_MEMORY:       return WATT_ENOMEM;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return WATT_EINVAL;
    default:                        return WATT_EIO;
    }
}

static void finish(struct transfer *t, CURLcode code)
{
    long status = 0;

    if (t->rc == 0 && code == CURLE_OK)
        (void)begin_body(t);            /* an answer without one */
    if (t->rc == 0 && code == CURLE_OK && streams(t) && !t->r.on_data && t->line.len > 0)
        (void)end_line(t);              /* the last line needs no end; an event does */
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->a.status = (int)status;
    t->a.total_ns = clock_mono_ns() - t->a.start_ns;
    if (t->rc == 0 && code != CURLE_OK)
        t->rc = err_set(&t->e, rc_of(code), "%.300s: %s", t->r.url,
                        t->why[0] ? t->why : curl_easy_strerror(code));
    unlink_transfer(t);
    t->c->called = true;
    if (t->r.on_done)
        t->r.on_done(t->r.ctx, t->rc, &t->a, t->rc < 0 ? &t->e : NULL);
    transfer_close(t);
}

unsigned http_client_run(struct http_client *c, unsigned wait_ms)
{
    const uint64_t end = clock_mono_ns() + (uint64_t)wait_ms * 1000000;
    int running = 0, left;
    CURLMsg *m;

    c->called = false;
    for (;;) {
        const CURLMcode code = curl_multi_perform(c->multi, &running);
        uint64_t now;

        while ((m = curl_multi_info_read(c->multi, &left)))
            if (m->msg == CURLMSG_DONE) {
                const CURLcode result = m->data.result;
                struct transfer *t = NULL;

                (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
                finish(t, result);      /* m is gone after it */
            }
        now = clock_mono_ns();
        if (code != CURLM_OK || c->called || c->n == 0 || now >= end)
            return c->n;
        now = end - now < POLL_NS ? end - now : POLL_NS;
        (void)curl_multi_poll(c->multi, NULL, 0, (int)(now / 1000000) + 1, NULL);
    }
}

/* ---- the simple case ---- */

struct fetch {
    const struct http_client_request *r;
    struct http_client_response *out;
    struct err *e;
    int  rc;
    bool over;
};

static int fetch_head(void *ctx, const struct http_client_response *r)
{
    const struct fetch *f = ctx;

    return f->r->on_head(f->r->ctx, r);
}

static int fetch_data(void *ctx, const void *data, size_t n)
{
    const struct fetch *f = ctx;

    return f->r->on_data(f->r->ctx, data, n);
}

static int fetch_line(void *ctx, struct sv line)
{
    const struct fetch *f = ctx;

    return f->r->on_line(f->r->ctx, line);
}

static int fetch_event(void *ctx, struct sv name, struct sv data)
{
    const struct fetch *f = ctx;

    return f->r->on_event(f->r->ctx, name, data);
}

static int fetch_poll(void *ctx)
{
    const struct fetch *f = ctx;

    return f->r->poll(f->r->ctx);
}

static void fetch_done(void *ctx, int rc, const struct http_client_response *r,
                       const struct err *why)
{
    struct fetch *f = ctx;

    f->over = true;
    f->rc = rc;
    if (rc < 0)
        f->rc = err_set(f->e, rc, "%s", why->msg);
    if (!f->out)
        return;
    *f->out = *r;
    str_init(&f->out->body, 0);
    str_append(&f->out->body, r->body.len ? r->body.data : "", r->body.len);
    if (f->rc == 0 && !str_ok(&f->out->body))
        f->rc = err_set(f->e, WATT_ENOMEM, "%.300s: no memory for the answer", f->r->url);
}

int http_client_fetch(struct http_client *c, const struct http_client_request *r,
                      struct http_client_response *out, struct err *e)
{
    struct fetch f = { .r = r, .out = out, .e = e };
    struct http_client_request own = *r;
    int rc;

    own.ctx = &f;
    own.on_head = r->on_head ? fetch_head : NULL;
    own.on_data = r->on_data ? fetch_data : NULL;
    own.on_line = r->on_line ? fetch_line : NULL;
    own.on_event = r->on_event ? fetch_event : NULL;
    own.poll = r->poll ? fetch_poll : NULL;
    own.on_done = fetch_done;
    if (out)
        *out = (struct http_client_response){ 0 };
    rc = http_client_start(c, &own, e);
    while (rc == 0 && !f.over)
        (void)http_client_run(c, 1000);
    return rc < 0 ? rc : f.rc;
}

void http_client_response_deinit(struct http_client_response *r)
{
    str_deinit(&r->body);
}

/* ---- helpers ---- */

/* What the body of an error says: {"error": "…"}, {"error": {"message": "…"}}, {"message": "…"}, or a
 * short text. */
static void explain(const struct str *body, char out[256])
{
    json_t *j = body->len ? json_loadb(body->data, body->len, 0, NULL) : NULL;
    const json_t *err = json_object_get(j, "error");
    const char *s = json_string_value(err);

    if (!s)
        s = json_string_value(json_object_get(err, "message"));
    if (!s)
        s = json_string_value(json_object_get(j, "message"));
    if (!s && body->len > 0 && body->len < 200 && body->data[0] != '<' && body->data[0] != '{')
        s = str_cstr(body);
    (void)snprintf(out, 256, "%s%s", s ? ": " : "", s ? s : "");
    json_decref(j);
}

int http_client_refused(const char *url, const struct http_client_response *r, struct err *e)
{
    char why[256];
    int code = WATT_EIO;

    if (r->status < 400)
        return 0;
    if (r->status == 404 || r->status == 410)
        code = WATT_ENOENT;
    else if (r->status == 401 || r->status == 403)
        code = WATT_EINVAL;
    else if (r->status == 429 || r->status == 503)
        code = WATT_EBUSY;
    explain(&r->body, why);
    return err_set(e, code, "%.200s: the server answers %d%s", url, r->status, why);
}

void http_client_escape(struct str *out, struct sv s, const char *keep)
{
    for (size_t i = 0; i < s.len; i++) {
        const char c = s.data[i];

        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
            (c != '\0' && strchr("-._~", c)) || (c != '\0' && strchr(keep, c)))
            str_putc(out, c);
        else
            str_printf(out, "%%%02X", (unsigned char)c);
    }
}

/* ---- a client ---- */

static CURLcode started;

static void start_library(void)
{
    started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int http_client_open(struct http_client **out, const struct http_client_opts *opts, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *env = getenv("SSL_CERT_FILE");
    const char *ca = opts && opts->ca_file ? opts->ca_file : env && *env ? env : NULL;
    struct http_client *c;

    (void)pthread_once(&once, start_library);
    if (started != CURLE_OK)
        return err_set(e, WATT_EIO, "HTTP client: %s", curl_easy_strerror(started));
    c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, WATT_ENOMEM, "HTTP client");
    c->multi = curl_multi_init();
    c->ca_file = ca ? mem_strdup(ca) : NULL;
    if (!c->multi || (ca && !c->ca_file)) {
        http_client_close(c);
        return err_set(e, WATT_ENOMEM, "HTTP client");
    }
    if (opts && opts->max_connections)
        (void)curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                                (long)opts->max_connections);
    *out = c;
    return 0;
}

void http_client_close(struct http_client *c)
{
    if (!c)
        return;
    while (c->list) {
        struct transfer *t = c->list;

        unlink_transfer(t);
        transfer_close(t);
    }
    if (c->multi)
        (void)curl_multi_cleanup(c->multi);
    mem_free(c->ca_file);
    mem_free(c);
}
