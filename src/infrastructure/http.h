/* http.h: an HTTP/1.1 server: bounded requests in, whole answers or streams out.
 *
 * Over libmicrohttpd with epoll. It knows nothing of what is asked: each whole request goes to the
 * handler, which answers at once or later, from any thread.
 *
 * A slow or absent client holds nobody up: what is written to a stream is queued to a bound; past
 * it the exchange is over. A client that goes away is noticed while it waits, not when it is
 * written to; the handler's on_abort then says so, once.
 *
 * Life of an exchange: the server makes it and calls on_request with a reference that the
 * handler owns and gives back by http_release when it will not touch the exchange again, after
 * exactly one of http_reply, or http_stream … http_end. An exchange that is released without an
 * answer gets 500. Functions on one exchange may be called from any thread, one at a time. */
#ifndef INFRASTRUCTURE_HTTP_H
#define INFRASTRUCTURE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define HTTP_MAX_HEADERS_OUT 24

struct http_server;
struct http_exchange;

/* The door upwards. */
struct http_handler {
    void *ctx;
    void (*on_request)(void *ctx, struct http_exchange *x);
    /* The server itself refuses (413, 400, …): writes the body of that answer in the shape that
     * the path's API has. NULL: plain text. */
    void (*on_refuse)(void *ctx, struct http_exchange *x, int status, const char *why);
    /* After the last byte, or when the client is gone (status 499); for the access log. */
    void (*on_end)(void *ctx, const struct http_exchange *x, int status, uint64_t n_bytes,
                   uint64_t ns);
};

struct http_opts {              /* zero means the default */
    const char *host;           /* address to listen on; default 127.0.0.1 */
    uint16_t    port;           /* 0: any free one */
    unsigned    n_threads;      /* default 2 */
    unsigned    max_connections;    /* default 4096; more wait in the kernel */
    size_t      max_body_bytes;     /* default 32 MiB; more is 413 */
    size_t      max_header_bytes;   /* of one connection; default 64 KiB */
    size_t      max_queued_bytes;   /* of one stream; default 4 MiB */
    /* A connection that says nothing so long is closed, and one whose request, or the reading of
     * whose answer, takes longer than that and a second for every 4 KiB; default 60. */
    unsigned    idle_s;
    const char *tls_cert, *tls_key; /* PEM texts; both or none */
    struct http_handler handler;
};

int  http_open(struct http_server **out, const struct http_opts *opts, struct err *e) MUST_CHECK;
uint16_t http_port(const struct http_server *s);
/* Another certificate for connections from now on; those that are open go on with the old one. An
 * error leaves the server as it was; WATT_EBUSY: those of HTTP_MAX_RETIRED earlier changes are
 * still open. Not with http_quiesce or http_close at the same time. */
#define HTTP_MAX_RETIRED 16u
int  http_set_tls(struct http_server *s, const char *cert, const char *key,
                  struct err *e) MUST_CHECK;
/* No new connections from now on; those that are open go on. */
void http_quiesce(struct http_server *s);
unsigned http_n_exchanges(const struct http_server *s);     /* that were not released */
/* Ends all connections. Every exchange must have been released. NULL is fine. */
void http_close(struct http_server *s);

/* ---- the request ---- */

const char *http_method(const struct http_exchange *x);
const char *http_path(const struct http_exchange *x);           /* decoded, without the query */
/* Only during on_request, or after http_keep_head; NULL: absent. */
const char *http_header(const struct http_exchange *x, const char *name);
const char *http_query(const struct http_exchange *x, const char *name);
struct sv   http_body(const struct http_exchange *x);
/* Copies headers and query, for whoever answers later and still asks for them. During on_request;
 * false: no memory. */
bool        http_keep_head(struct http_exchange *x);
const char *http_peer(const struct http_exchange *x);           /* address in text */
bool        http_gone(const struct http_exchange *x);           /* nobody will read an answer */
uint64_t    http_started_ns(const struct http_exchange *x);     /* clock_mono_ns */
void       *http_user(const struct http_exchange *x);           /* the handler's own, NULL at first */
/* Once; `drop` is called with it when the exchange is forgotten, after on_end and the last
 * release. */
void        http_set_user(struct http_exchange *x, void *user, void (*drop)(void *user));

/* Called once, from a thread of the server, when the client goes away or is too slow before the
 * answer is complete; at once if it is gone already. Never after the last http_release, which
 * waits for one that is running. */
void http_on_abort(struct http_exchange *x, void (*fn)(void *ctx), void *ctx);

/* ---- the answer ---- */

/* Before the answer begins; copied. Those beyond HTTP_MAX_HEADERS_OUT are dropped. */
void http_add_header(struct http_exchange *x, const char *name, const char *value);
/* The whole answer; data is copied. */
void http_reply(struct http_exchange *x, int status, const char *type, const void *data, size_t n);
/* A stream: begins here, then any number of writes, then http_end. */
void http_stream(struct http_exchange *x, int status, const char *type);
/* False when nobody reads any more: stop. */
bool http_write(struct http_exchange *x, const void *data, size_t n);
void http_end(struct http_exchange *x);
/* In place of http_end: the client is to see that the stream isn't whole. */
void http_break(struct http_exchange *x);
/* While a stream is silent, `text` (which must live as long as x) is written every `ms`, so that
 * nothing between here and the client gives it up; if the answer has not begun by then, it begins
 * as a stream of this type with status 200. ms 0: never. */
void http_keep_alive(struct http_exchange *x, const char *type, const char *text, uint32_t ms);
bool http_begun(const struct http_exchange *x);     /* the answer */
/* One more reference, to be released too; the last release without an answer gives 500. */
void http_hold(struct http_exchange *x);
void http_release(struct http_exchange *x);

#endif
