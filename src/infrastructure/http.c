/* http.c: libmicrohttpd's callbacks, and exchanges between its threads and the handler's.
 *
 * An exchange waits suspended while it has nothing to send. libmicrohttpd does not look at a
 * suspended connection, so a thread of our own watches those sockets for the other side's close. */
#include "infrastructure/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define TLS_VERSIONS "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"   /* RFC 8996: no older ones */
#define HTTP_TYPE_BYTES 64
#define LOOK_MS 500         /* how often silent streams and late clients are looked for */
#define SLOWEST 4096u       /* bytes a second that a client may be given time for, beyond idle_s */

struct connection {
    struct connection *next, *previous;     /* under conn_mu */
    int               fd;
    atomic_ullong     deadline;     /* clock_mono_ns until which more must have come; 0: none */
};

struct http_server {
    struct MHD_Daemon  *daemon;
    struct retired { struct MHD_Daemon *daemon; int fd; } retired[HTTP_MAX_RETIRED];
    unsigned            n_retired;      /* daemons with older certificates */
    struct http_opts    opts;           /* of the daemon; its texts are the caller's */
    struct http_handler handler;
    size_t   max_body, max_queued;
    int      listen_fd, epoll_fd, wake_fd;
    uint16_t port;
    pthread_t watcher;
    bool      watching;
    atomic_uint n_exchanges;
    atomic_bool stop;
    uint64_t    idle_ns;
    pthread_mutex_t         conn_mu;
    struct connection      *connections;    /* under conn_mu */
    pthread_mutex_t         watch_mu;
    struct http_exchange   *watched;    /* under watch_mu: list of those whose socket is watched */
};

enum answer { ANSWER_NONE, ANSWER_WHOLE, ANSWER_STREAM };

struct kept { struct kept *next; bool query; char *name, *value; };

struct http_exchange {
    struct http_server    *s;
    struct MHD_Connection *conn;
    atomic_uint refs;           /* the connection's and the handler's */
    char    *path, *method;
    struct kept *kept;          /* headers and query */
    bool     has_kept, kept_failed;
    char     peer[64];
    struct str body;
    uint64_t started;
    void    *user;
    void   (*drop_user)(void *user);
    int      refused;           /* status of a refusal found while reading */
    bool     asked;             /* the handler was called */
    bool     queued;            /* the response was given to libmicrohttpd */
    struct http_exchange *next, *previous;  /* under watch_mu */
    bool     is_watched;
    int      fd;
    struct connection *c;       /* NULL: there was no memory for it */

    atomic_uint holds;          /* the handler's references */
    pthread_mutex_t abort_mu;   /* held while on_abort runs */
    pthread_mutex_t mu;         /* all below */
    enum answer answer;
    bool     suspended, ended, broken, gone, aborted;
    int      status;
    char     type[HTTP_TYPE_BYTES];
    char    *names[HTTP_MAX_HEADERS_OUT], *values[HTTP_MAX_HEADERS_OUT];
    unsigned n_headers;
    struct str out;             /* what was written and not sent; sent: bytes at its front */
    size_t   sent;
    uint64_t n_bytes;
    void   (*on_abort)(void *ctx);
    void    *abort_ctx;
    const char *alive_type, *alive_text;
    uint64_t alive_ns, written; /* the silence that is allowed, 0: any; since when it lasts */
    uint64_t read_by;           /* when the whole answer must have been read; 0: not set yet */
};

/* ---- exchanges ---- */

static void unref(struct http_exchange *x)
{
    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    for (unsigned i = 0; i < x->n_headers; i++) {
        mem_free(x->names[i]);
        mem_free(x->values[i]);
    }
    for (struct kept *k = x->kept, *next; k; k = next) {
        next = k->next;
        mem_free(k->name);
        mem_free(k->value);
        mem_free(k);
    }
    if (x->drop_user)
        x->drop_user(x->user);
    atomic_fetch_sub(&x->s->n_exchanges, 1);
    str_deinit(&x->body);
    str_deinit(&x->out);
    mem_free(x->path);
    mem_free(x->method);
    pthread_mutex_destroy(&x->mu);
    pthread_mutex_destroy(&x->abort_mu);
    mem_free(x);
}

static void peer_name(struct http_exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;

    if (!a || getnameinfo(a, a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                      : sizeof(struct sockaddr_in),
                          x->peer, sizeof x->peer, NULL, 0, NI_NUMERICHOST) != 0)
        memcpy(x->peer, "-", 2);
}

static struct http_exchange *exchange_new(struct http_server *s, struct MHD_Connection *conn,
                                          const char *url, const char *method)
{
    struct http_exchange *x = mem_calloc(1, sizeof *x);
    const union MHD_ConnectionInfo *info;

    if (!x)
        return NULL;
    x->s = s;
    x->conn = conn;
    x->fd = -1;
    atomic_init(&x->refs, 1);
    atomic_fetch_add(&s->n_exchanges, 1);
    pthread_mutex_init(&x->mu, NULL);
    pthread_mutex_init(&x->abort_mu, NULL);
    str_init(&x->body, s->max_body + 1);
    str_init(&x->out, s->max_queued);
    x->started = clock_mono_ns();
    x->path = mem_strdup(url);
    x->method = mem_strdup(method);
    if (!x->path || !x->method) {
        unref(x);
        return NULL;
    }
    info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info)
        x->fd = info->connect_fd;
    info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info)
        x->c = info->socket_context;
    peer_name(x);
    return x;
}

/* The client is gone or too slow. Calls the handler's on_abort, once, outside the lock that the
 * handler's own calls take. */
static void abort_exchange(struct http_exchange *x)
{
    void (*fn)(void *) = NULL;
    void *ctx = NULL;

    pthread_mutex_lock(&x->abort_mu);
    pthread_mutex_lock(&x->mu);
    x->gone = true;
    if (!x->aborted && x->on_abort) {
        x->aborted = true;
        fn = x->on_abort;
        ctx = x->abort_ctx;
    }
    pthread_mutex_unlock(&x->mu);
    if (fn)
        fn(ctx);
    pthread_mutex_unlock(&x->abort_mu);
}

/* With x->mu held: libmicrohttpd shall look again. */
static void wake(struct http_exchange *x)
{
    if (x->suspended) {
        x->suspended = false;
        MHD_resume_connection(x->conn);
    }
}

/* ---- watching suspended sockets ---- */

/* With x->mu held. */
static bool begin(struct http_exchange *x, enum answer kind, int status, const char *type)
{
    if (x->answer != ANSWER_NONE)
        return false;
    x->answer = kind;
    x->status = status;
    (void)snprintf(x->type, sizeof x->type, "%s", type);
    return true;
}

static void watch(struct http_exchange *x)
{
    struct http_server *s = x->s;
    struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLONESHOT,
                              .data.ptr = x };

    if (x->fd < 0)
        return;
    pthread_mutex_lock(&s->watch_mu);
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, x->fd, &ev) == 0) {
        x->is_watched = true;
        x->next = s->watched;
        x->previous = NULL;
        if (s->watched)
            s->watched->previous = x;
        s->watched = x;
    }
    pthread_mutex_unlock(&s->watch_mu);
}

static void unwatch(struct http_exchange *x)
{
    struct http_server *s = x->s;

    pthread_mutex_lock(&s->watch_mu);
    if (x->is_watched) {
        (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, x->fd, NULL);
        x->is_watched = false;
        if (x->next)
            x->next->previous = x->previous;
        if (x->previous)
            x->previous->next = x->next;
        else
            s->watched = x->next;
    }
    pthread_mutex_unlock(&s->watch_mu);
}

/* An event may be about an exchange that has just ended: only those in the list are alive. */
static struct http_exchange *still_watched(struct http_server *s, const void *p)
{
    struct http_exchange *x;

    pthread_mutex_lock(&s->watch_mu);
    for (x = s->watched; x && x != p; x = x->next) {
    }
    if (x)
        atomic_fetch_add(&x->refs, 1);
    pthread_mutex_unlock(&s->watch_mu);
    return x;
}

/* With watch_mu and x->mu held. */
static void break_silence(struct http_exchange *x, uint64_t now)
{
    if (x->alive_ns == 0 || now - x->written < x->alive_ns || x->ended || x->gone)
        return;
    (void)begin(x, ANSWER_STREAM, MHD_HTTP_OK, x->alive_type);
    if (x->answer == ANSWER_STREAM && x->out.len == 0)  /* else the client does not read */
        str_puts(&x->out, x->alive_text);
    x->written = now;
    wake(x);
}

static uint64_t time_for(const struct http_server *s, size_t n_bytes)
{
    return s->idle_ns + (uint64_t)n_bytes * 1000000000 / SLOWEST;
}

/* With watch_mu and x->mu held. A client that reads an answer byte by byte holds its memory. */
static void cut_slow_reader(struct http_exchange *x, uint64_t now)
{
    if (!x->ended || x->answer == ANSWER_NONE)
        return;
    if (x->read_by == 0)
        x->read_by = now + time_for(x->s, x->out.len - x->sent);
    else if (now > x->read_by)
        (void)shutdown(x->fd, SHUT_RDWR);
}

static void look_at_exchanges(struct http_server *s, uint64_t now)
{
    pthread_mutex_lock(&s->watch_mu);
    for (struct http_exchange *x = s->watched; x; x = x->next) {
        pthread_mutex_lock(&x->mu);
        break_silence(x, now);
        cut_slow_reader(x, now);
        pthread_mutex_unlock(&x->mu);
    }
    pthread_mutex_unlock(&s->watch_mu);
}

/* A request that comes byte by byte keeps libmicrohttpd's own timer from running out. */
static void cut_slow_writers(struct http_server *s, uint64_t now)
{
    pthread_mutex_lock(&s->conn_mu);
    for (struct connection *c = s->connections; c; c = c->next) {
        const uint64_t deadline = atomic_load(&c->deadline);

        if (deadline != 0 && now > deadline) {
            atomic_store(&c->deadline, 0);
            (void)shutdown(c->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&s->conn_mu);
}

static void set_deadline(struct http_exchange *x, uint64_t at)
{
    if (x->c)
        atomic_store(&x->c->deadline, at);
}

static void *watcher_main(void *arg)
{
    struct http_server *s = arg;
    struct epoll_event events[64];
    uint64_t looked = clock_mono_ns();

    while (!atomic_load(&s->stop)) {
        const int n = epoll_wait(s->epoll_fd, events, 64, LOOK_MS);

        if (clock_mono_ns() - looked >= LOOK_MS * UINT64_C(1000000)) {
            looked = clock_mono_ns();
            look_at_exchanges(s, looked);
            cut_slow_writers(s, looked);
        }

        for (int i = 0; i < n; i++) {
            struct http_exchange *x = events[i].data.ptr ? still_watched(s, events[i].data.ptr)
                                                         : NULL;

            if (!x)
                continue;
            abort_exchange(x);
            pthread_mutex_lock(&x->mu);
            x->ended = true;            /* whatever comes, nobody reads it */
            wake(x);
            pthread_mutex_unlock(&x->mu);
            unref(x);
        }
    }
    return NULL;
}

/* ---- answers ---- */

static struct MHD_Response *with_headers(struct http_exchange *x, struct MHD_Response *r)
{
    if (!r)
        return NULL;
    if (*x->type)
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, x->type);
    for (unsigned i = 0; i < x->n_headers; i++)
        MHD_add_response_header(r, x->names[i], x->values[i]);
    return r;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct http_exchange *x = cls;
    bool waits = false, broken;
    size_t n;

    (void)pos;
    pthread_mutex_lock(&x->mu);
    n = x->out.len - x->sent;
    if (n > max)
        n = max;
    if (n > 0) {
        memcpy(buf, x->out.data + x->sent, n);
        x->sent += n;
        x->n_bytes += n;
        if (x->sent == x->out.len) {
            str_reset(&x->out);
            x->sent = 0;
        }
    } else if (!x->ended) {
        waits = x->suspended = true;
        MHD_suspend_connection(x->conn);
    }
    broken = x->broken;
    pthread_mutex_unlock(&x->mu);
    if (n > 0)
        return (ssize_t)n;
    if (broken)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    return waits ? 0 : MHD_CONTENT_READER_END_OF_STREAM;
}

static void stream_freed(void *cls)
{
    unref(cls);
}

/* With an answer there, of which nothing that is read here changes any more; without the lock,
 * since libmicrohttpd calls read_stream with one of its own held. */
static enum MHD_Result queue_answer(struct http_exchange *x)
{
    static const char no_memory[] = "out of memory";
    struct MHD_Response *r;
    enum MHD_Result ok;

    if (x->answer == ANSWER_WHOLE && x->broken) {
        r = MHD_create_response_from_buffer(sizeof no_memory - 1, (void *)(uintptr_t)no_memory,
                                            MHD_RESPMEM_PERSISTENT);
        x->n_bytes = sizeof no_memory - 1;
    } else if (x->answer == ANSWER_WHOLE) {
        r = MHD_create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_MUST_COPY);
        x->n_bytes = x->out.len;
    } else {
        atomic_fetch_add(&x->refs, 1);
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, x, stream_freed);
        if (!r)
            atomic_fetch_sub(&x->refs, 1);
    }
    if (!with_headers(x, r))
        return MHD_NO;
    x->queued = true;
    ok = MHD_queue_response(x->conn, (unsigned)x->status, r);
    MHD_destroy_response(r);
    return ok;
}

void http_add_header(struct http_exchange *x, const char *name, const char *value)
{
    pthread_mutex_lock(&x->mu);
    if (x->n_headers < HTTP_MAX_HEADERS_OUT && x->answer == ANSWER_NONE) {
        char *n = mem_strdup(name), *v = mem_strdup(value);

        if (n && v) {
            x->names[x->n_headers] = n;
            x->values[x->n_headers++] = v;
        } else {
            mem_free(n);
            mem_free(v);
        }
    }
    pthread_mutex_unlock(&x->mu);
}

void http_reply(struct http_exchange *x, int status, const char *type, const void *data, size_t n)
{
    pthread_mutex_lock(&x->mu);
    if (begin(x, ANSWER_WHOLE, status, type)) {
        str_deinit(&x->out);
        str_init(&x->out, n + 1);       /* an answer that is whole has its own size */
        str_append(&x->out, data, n);
        if (!str_ok(&x->out)) {
            x->status = MHD_HTTP_SERVICE_UNAVAILABLE;
            x->broken = true;
            (void)snprintf(x->type, sizeof x->type, "text/plain");
        }
        x->ended = true;
        wake(x);
    }
    pthread_mutex_unlock(&x->mu);
}

void http_stream(struct http_exchange *x, int status, const char *type)
{
    pthread_mutex_lock(&x->mu);
    if (begin(x, ANSWER_STREAM, status, type))
        wake(x);
    pthread_mutex_unlock(&x->mu);
}

bool http_write(struct http_exchange *x, const void *data, size_t n)
{
    bool gone, slow = false;

    pthread_mutex_lock(&x->mu);
    if (!x->gone && !x->ended) {
        if (x->sent > 0 && x->sent * 2 > x->out.len) {  /* room at the front again */
            memmove(x->out.data, x->out.data + x->sent, x->out.len - x->sent);
            x->out.len -= x->sent;
            x->sent = 0;
        }
        str_append(&x->out, data, n);
        x->written = clock_mono_ns();
        slow = !str_ok(&x->out);
        if (slow)
            x->ended = x->broken = true;
        wake(x);
    }
    gone = x->gone;
    pthread_mutex_unlock(&x->mu);
    if (slow)
        abort_exchange(x);
    return !gone && !slow;
}

void http_end(struct http_exchange *x)
{
    pthread_mutex_lock(&x->mu);
    x->ended = true;
    wake(x);
    pthread_mutex_unlock(&x->mu);
}

void http_break(struct http_exchange *x)
{
    pthread_mutex_lock(&x->mu);
    x->ended = x->broken = true;
    wake(x);
    pthread_mutex_unlock(&x->mu);
}

void http_keep_alive(struct http_exchange *x, const char *type, const char *text, uint32_t ms)
{
    pthread_mutex_lock(&x->mu);
    x->alive_type = type;
    x->alive_text = text;
    x->alive_ns = ms * UINT64_C(1000000);
    x->written = clock_mono_ns();
    pthread_mutex_unlock(&x->mu);
}

bool http_begun(const struct http_exchange *x)
{
    struct http_exchange *w = (struct http_exchange *)(uintptr_t)x;
    bool begun;

    pthread_mutex_lock(&w->mu);
    begun = w->answer != ANSWER_NONE;
    pthread_mutex_unlock(&w->mu);
    return begun;
}

void http_on_abort(struct http_exchange *x, void (*fn)(void *ctx), void *ctx)
{
    bool gone;

    pthread_mutex_lock(&x->abort_mu);
    pthread_mutex_lock(&x->mu);
    x->on_abort = fn;
    x->abort_ctx = ctx;
    gone = x->gone && !x->aborted && fn;
    if (gone)
        x->aborted = true;
    pthread_mutex_unlock(&x->mu);
    if (gone)
        fn(ctx);
    pthread_mutex_unlock(&x->abort_mu);
}

void http_hold(struct http_exchange *x)
{
    atomic_fetch_add(&x->holds, 1);
}

void http_release(struct http_exchange *x)
{
    if (atomic_fetch_sub(&x->holds, 1) != 1)
        return;
    pthread_mutex_lock(&x->abort_mu);   /* one that runs has finished with the handler's memory */
    pthread_mutex_lock(&x->mu);
    x->on_abort = NULL;
    if (begin(x, ANSWER_WHOLE, MHD_HTTP_INTERNAL_SERVER_ERROR, "text/plain")) {
        x->ended = true;
        wake(x);
    }
    x->ended = true;
    pthread_mutex_unlock(&x->mu);
    pthread_mutex_unlock(&x->abort_mu);
    unref(x);
}

/* ---- what libmicrohttpd calls ---- */

static void refuse(struct http_exchange *x, int status, const char *why)
{
    const struct http_handler *h = &x->s->handler;

    if (h->on_refuse)
        h->on_refuse(h->ctx, x, status, why);
    http_reply(x, status, "text/plain", why, strlen(why));      /* nothing if it has replied */
}

static void read_body(struct http_exchange *x, const char *data, size_t n)
{
    if (x->refused)
        return;
    if (n <= x->s->max_body - x->body.len)
        str_append(&x->body, data, n);
    else
        x->refused = MHD_HTTP_CONTENT_TOO_LARGE;
    if (!str_ok(&x->body))
        x->refused = MHD_HTTP_SERVICE_UNAVAILABLE;
    if (x->refused) {
        str_deinit(&x->body);
        str_init(&x->body, 16);
        return;
    }
    set_deadline(x, x->started + time_for(x->s, x->body.len));
}

/* Everything of the request is there: to the handler, once; then to whoever answered. */
static enum MHD_Result answer(struct http_exchange *x)
{
    enum MHD_Result ok = MHD_YES;
    bool ready, gone;

    set_deadline(x, 0);
    if (!x->asked) {
        x->asked = true;
        if (x->refused) {
            refuse(x, x->refused, x->refused == MHD_HTTP_CONTENT_TOO_LARGE ? "the body is too large"
                                                                           : "out of memory");
        } else {
            atomic_fetch_add(&x->refs, 1);      /* the handler's */
            atomic_store(&x->holds, 1);
            watch(x);
            x->s->handler.on_request(x->s->handler.ctx, x);
        }
    }
    pthread_mutex_lock(&x->mu);
    ready = x->answer != ANSWER_NONE;
    gone = x->gone;
    if (!ready && !gone) {
        x->suspended = true;
        MHD_suspend_connection(x->conn);
    }
    pthread_mutex_unlock(&x->mu);
    if (ready)
        ok = queue_answer(x);
    else if (gone)
        ok = MHD_NO;
    return ok;
}

/* A NUL in a path would hide what stands behind it: it becomes a byte that no path has. */
static size_t unescape(void *cls, struct MHD_Connection *conn, char *text)
{
    const size_t n = MHD_http_unescape(text);

    (void)cls;
    (void)conn;
    for (size_t i = 0; i < n; i++)
        if (text[i] == '\0')
            text[i] = '\x01';
    return n;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *conn, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *size, void **con_cls)
{
    struct http_exchange *x = *con_cls;

    if (!x) {
        const char *length;

        x = exchange_new(cls, conn, url, method);
        if (!x)
            return MHD_NO;
        *con_cls = x;
        set_deadline(x, x->started + x->s->idle_ns);
        if (strncmp(version, "HTTP/1.", 7) != 0) {      /* a line of something else */
            x->asked = true;
            refuse(x, MHD_HTTP_BAD_REQUEST, "this is not HTTP/1.1");
            return answer(x);
        }
        length = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
        if (length && strtoull(length, NULL, 10) > x->s->max_body) {
            x->asked = true;            /* before a byte of it is read */
            refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
            return answer(x);
        }
        return MHD_YES;
    }
    if (*size > 0) {
        if (x->refused && x->queued)
            return MHD_NO;
        read_body(x, data, *size);
        *size = 0;
        return MHD_YES;
    }
    return x->queued ? MHD_YES : answer(x);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct http_exchange *x = *con_cls;
    struct http_server *s = cls;

    (void)conn;
    if (!x)
        return;
    *con_cls = NULL;
    unwatch(x);
    if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        abort_exchange(x);
    pthread_mutex_lock(&x->mu);
    x->suspended = false;
    x->gone = true;                     /* later writes go nowhere */
    pthread_mutex_unlock(&x->mu);
    set_deadline(x, clock_mono_ns() + s->idle_ns);      /* of the next request */
    x->c = NULL;
    if (s->handler.on_end)
        s->handler.on_end(s->handler.ctx, x,
                          why == MHD_REQUEST_TERMINATED_COMPLETED_OK ? x->status : 499, x->n_bytes,
                          clock_mono_ns() - x->started);
    unref(x);
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = cls;
    struct connection *c = *socket_context;
    const union MHD_ConnectionInfo *info;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = info ? mem_calloc(1, sizeof *c) : NULL;
        *socket_context = c;
        if (!c)
            return;
        c->fd = info->connect_fd;
        atomic_init(&c->deadline, clock_mono_ns() + s->idle_ns);
        pthread_mutex_lock(&s->conn_mu);
        c->next = s->connections;
        if (c->next)
            c->next->previous = c;
        s->connections = c;
        pthread_mutex_unlock(&s->conn_mu);
        return;
    }
    if (!c)
        return;
    pthread_mutex_lock(&s->conn_mu);
    if (c->next)
        c->next->previous = c->previous;
    *(c->previous ? &c->previous->next : &s->connections) = c->next;
    pthread_mutex_unlock(&s->conn_mu);
    *socket_context = NULL;
    mem_free(c);
}

/* ---- the server ---- */

static int listen_on(struct http_server *s, const char *host, uint16_t port, struct err *e)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *list, *a;
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char text[8];
    const int on = 1;
    int rc, last = 0;

    snprintf(text, sizeof text, "%u", port);
    rc = getaddrinfo(host, text, &hints, &list);
    if (rc != 0)
        return err_set(e, WATT_EINVAL, "http: host '%s': %s", host, gai_strerror(rc));
    s->listen_fd = -1;
    for (a = list; a && s->listen_fd < 0; a = a->ai_next) {
        const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0) {
            last = errno;
            continue;
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1024) == 0) {
            s->listen_fd = fd;
        } else {
            last = errno;
            close(fd);
        }
    }
    freeaddrinfo(list);
    if (s->listen_fd < 0)
        return err_errno(e, WATT_EIO, last, "http: can't listen on %s port %u", host, port);
    if (getsockname(s->listen_fd, (struct sockaddr *)&bound, &len) == 0)
        s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                    : ((struct sockaddr_in *)&bound)->sin_port);
    return 0;
}

static int start_daemon(struct http_server *s, int listen_fd, const struct http_opts *o,
                        struct MHD_Daemon **out, struct err *e)
{
    struct MHD_Daemon *d;
    struct MHD_OptionItem more[5] = { { MHD_OPTION_END, 0, NULL } };
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    const unsigned n_threads = o->n_threads ? o->n_threads : 2;

    if (o->tls_cert) {
        flags |= MHD_USE_TLS;
        more[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0,
                                           (void *)(uintptr_t)o->tls_cert };
        more[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0,
                                           (void *)(uintptr_t)o->tls_key };
        more[2] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
                                           (void *)(uintptr_t)TLS_VERSIONS };
        more[3] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    }
    d = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, s,
        MHD_OPTION_LISTEN_SOCKET, listen_fd,
        MHD_OPTION_THREAD_POOL_SIZE, n_threads > 1 ? n_threads : 0,
        MHD_OPTION_CONNECTION_LIMIT, o->max_connections ? o->max_connections : 4096,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        o->max_header_bytes ? o->max_header_bytes : (size_t)64 << 10,
        MHD_OPTION_CONNECTION_TIMEOUT, o->idle_s ? o->idle_s : 60,
        MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (!d)
        return err_set(e, WATT_EIO, "http: the server does not start%s",
                       o->tls_cert ? " (are certificate and key PEM files that belong together?)"
                                   : "");
    *out = d;
    return 0;
}

static void end_retired(struct retired *r)
{
    MHD_stop_daemon(r->daemon);
    close(r->fd);
}

/* Ends daemons whose last connection is gone. */
static void reap(struct http_server *s)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < s->n_retired; i++) {
        const union MHD_DaemonInfo *info =
            MHD_get_daemon_info(s->retired[i].daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

        if (info && info->num_connections == 0)
            end_retired(&s->retired[i]);
        else
            s->retired[kept++] = s->retired[i];
    }
    s->n_retired = kept;
}

/* libmicrohttpd can't change a certificate: a second daemon takes the listening socket over. */
int http_set_tls(struct http_server *s, const char *cert, const char *key, struct err *e)
{
    struct http_opts o = s->opts;
    struct MHD_Daemon *next;
    int fd, rc;

    reap(s);
    if (s->n_retired == HTTP_MAX_RETIRED)
        return err_set(e, WATT_EBUSY, "http: connections of %u earlier certificates are open",
                       HTTP_MAX_RETIRED);
    fd = fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, WATT_EIO, errno, "http: listening socket");
    o.tls_cert = cert;
    o.tls_key = key;
    rc = start_daemon(s, fd, &o, &next, e);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    (void)MHD_quiesce_daemon(s->daemon);    /* its threads may be about to look at the socket */
    s->retired[s->n_retired++] = (struct retired){ s->daemon, s->listen_fd };
    s->listen_fd = fd;
    s->daemon = next;
    return 0;
}

int http_open(struct http_server **out, const struct http_opts *o, struct err *e)
{
    struct http_server *s = mem_calloc(1, sizeof *s);
    struct epoll_event ev = { .events = EPOLLIN };
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "http: server");
    s->handler = o->handler;
    s->max_body = o->max_body_bytes ? o->max_body_bytes : (size_t)32 << 20;
    s->max_queued = o->max_queued_bytes ? o->max_queued_bytes : (size_t)4 << 20;
    s->listen_fd = s->epoll_fd = s->wake_fd = -1;
    s->idle_ns = (o->idle_s ? o->idle_s : 60) * UINT64_C(1000000000);
    pthread_mutex_init(&s->watch_mu, NULL);
    pthread_mutex_init(&s->conn_mu, NULL);
    rc = listen_on(s, o->host ? o->host : "127.0.0.1", o->port, e);
    if (rc < 0)
        goto fail;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->wake_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->wake_fd, &ev) < 0) {
        rc = err_errno(e, WATT_EIO, errno, "http: epoll");
        goto fail;
    }
    rc = pthread_create(&s->watcher, NULL, watcher_main, s);
    if (rc != 0) {
        rc = err_errno(e, WATT_EIO, rc, "http: thread");
        goto fail;
    }
    s->watching = true;
    s->opts = *o;
    rc = start_daemon(s, s->listen_fd, o, &s->daemon, e);
    if (rc < 0)
        goto fail;
    *out = s;
    return 0;
fail:
    http_close(s);
    return rc;
}

uint16_t http_port(const struct http_server *s)
{
    return s->port;
}

unsigned http_n_exchanges(const struct http_server *s)
{
    return atomic_load(&s->n_exchanges);
}

void http_quiesce(struct http_server *s)
{
    const int fd = MHD_quiesce_daemon(s->daemon);

    if (fd >= 0)
        close(fd);
    s->listen_fd = -1;
}

void http_close(struct http_server *s)
{
    const uint64_t one = 1;

    if (!s)
        return;
    for (unsigned i = 0; i < s->n_retired; i++)
        end_retired(&s->retired[i]);
    if (s->daemon)
        MHD_stop_daemon(s->daemon);     /* closes the listening socket */
    else if (s->listen_fd >= 0)
        close(s->listen_fd);
    atomic_store(&s->stop, true);
    if (s->watching) {
        (void)!write(s->wake_fd, &one, sizeof one);
        pthread_join(s->watcher, NULL);
    }
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_mutex_destroy(&s->watch_mu);
    pthread_mutex_destroy(&s->conn_mu);
    mem_free(s);
}

/* ---- the request ---- */

const char *http_method(const struct http_exchange *x)
{
    return x->method;
}

const char *http_path(const struct http_exchange *x)
{
    return x->path;
}

static const char *kept_value(const struct http_exchange *x, const char *name, bool query)
{
    for (const struct kept *k = x->kept; k; k = k->next)
        if (k->name && k->query == query && (query ? strcmp(k->name, name) : strcasecmp(k->name, name)) == 0)
            return k->value;
    return NULL;
}

static enum MHD_Result keep_one(void *cls, enum MHD_ValueKind kind, const char *name,
                                const char *value)
{
    struct http_exchange *x = cls;
    struct kept *k = mem_calloc(1, sizeof *k);

    if (k) {
        k->query = kind == MHD_GET_ARGUMENT_KIND;
        k->name = mem_strdup(name);
        k->value = mem_strdup(value ? value : "");
        k->next = x->kept;
        x->kept = k;
    }
    x->kept_failed |= !k || !k->name || !k->value;
    return x->kept_failed ? MHD_NO : MHD_YES;
}

bool http_keep_head(struct http_exchange *x)
{
    if (!x->has_kept) {
        (void)MHD_get_connection_values(x->conn, MHD_HEADER_KIND, keep_one, x);
        (void)MHD_get_connection_values(x->conn, MHD_GET_ARGUMENT_KIND, keep_one, x);
        x->has_kept = !x->kept_failed;
    }
    return x->has_kept;
}

const char *http_header(const struct http_exchange *x, const char *name)
{
    return x->has_kept ? kept_value(x, name, false)
                       : MHD_lookup_connection_value(x->conn, MHD_HEADER_KIND, name);
}

const char *http_query(const struct http_exchange *x, const char *name)
{
    return x->has_kept ? kept_value(x, name, true)
                       : MHD_lookup_connection_value(x->conn, MHD_GET_ARGUMENT_KIND, name);
}

struct sv http_body(const struct http_exchange *x)
{
    return (struct sv){ x->body.len ? x->body.data : "", x->body.len };
}

const char *http_peer(const struct http_exchange *x)
{
    return x->peer;
}

bool http_gone(const struct http_exchange *x)
{
    struct http_exchange *w = (struct http_exchange *)(uintptr_t)x;
    bool gone;

    pthread_mutex_lock(&w->mu);
    gone = w->gone;
    pthread_mutex_unlock(&w->mu);
    return gone;
}

uint64_t http_started_ns(const struct http_exchange *x)
{
    return x->started;
}

void *http_user(const struct http_exchange *x)
{
    return x->user;
}

void http_set_user(struct http_exchange *x, void *user, void (*drop)(void *user))
{
    x->user = user;
    x->drop_user = drop;
}
