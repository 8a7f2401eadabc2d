/* The floor: the least that one thread can do for a request on this kernel. No cache, no parser, no HTTP/2.
 *
 * usage: limit HTTP_PORT HTTPS_PORT RELAY_PORT ORIGIN_PORT FOLDER CERTIFICATE KEY [copy]
 *   HTTP_PORT    finds the empty line; /1k, /100k and 304 ready in memory, /100m by sendfile, single ranges of it
 *   HTTPS_PORT   the same through OpenSSL, all from memory; only when built with it
 *   RELAY_PORT   bytes to the origin and back, a connection for a connection
 *   copy         /100m is sent from huge pages instead of by sendfile
 */
#include "net.h"
#include <sys/sendfile.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

enum { REQUEST_MAX = 16384, HEAD_MAX = 256, HUGE_PAGE = 2 << 20, CHUNK = 4 << 20 };
enum kind { HTTP_LISTENER, HTTPS_LISTENER, RELAY_LISTENER, CLIENT, RELAY };

struct conn {
    enum kind kind;
    int fd, is_writing, ends;
    SSL *tls;
    struct conn *other, *next_gone;
    struct span now, then;    /* what is to be sent from memory, and what after it */
    off_t file_at;
    size_t file_left;         /* what is to be sent from the file after `now` */
    char head[HEAD_MAX], bytes[REQUEST_MAX];
    size_t count;
};

static int poll, big_fd, origin_port;
static struct span small, middle, unchanged, big;
static int is_copying;
static struct conn *gone;
#ifdef WITH_TLS
static SSL_CTX *context;
#endif

static struct span with_head(struct span body, const char *path) {
    char *all = malloc(body.count + HEAD_MAX);
    int head = sprintf(all, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nETag: \"bench%s\"\r\n"
        "Content-Length: %zu\r\n\r\n", path, body.count);
    memcpy(all + head, body.bytes, body.count);
    return (struct span){all, head + body.count};
}

static struct span in_huge_pages(struct span from) {
    char *to = aligned_alloc(HUGE_PAGE, (from.count + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    madvise(to, from.count, MADV_HUGEPAGE);
    memcpy(to, from.bytes, from.count);
    return (struct span){to, from.count};
}

/* Freed after the batch of events, which may still name it. */
static void part(struct conn *conn) {
    for (int side = 0; side < 2 && conn; side++, conn = conn->other) {
        if (conn->fd < 0) break;
#ifdef WITH_TLS
        if (conn->tls) SSL_free(conn->tls);
#endif
        close(conn->fd);
        conn->fd = -1;
        conn->next_gone = gone;
        gone = conn;
    }
}

/* SSL_get_error() also looks at what other connections left in the thread's queue of errors, hence the clearing.
 * Bytes that went out; 0 when it would wait, -1 when the client is gone. */
static ssize_t put(struct conn *conn, const char *bytes, size_t count, int more) {
#ifdef WITH_TLS
    if (conn->tls) {
        ERR_clear_error();
        int sent = SSL_write(conn->tls, bytes, count < CHUNK ? count : CHUNK);
        return sent > 0 ? sent : SSL_get_error(conn->tls, sent) == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
#endif
    ssize_t sent = send(conn->fd, bytes, count < CHUNK ? count : CHUNK, more ? MSG_MORE : 0);
    return sent >= 0 ? sent : errno == EAGAIN ? 0 : -1;
}

static ssize_t put_file(struct conn *conn) {
    ssize_t sent = sendfile(conn->fd, big_fd, &conn->file_at, conn->file_left);
    return sent > 0 ? sent : sent < 0 && errno == EAGAIN ? 0 : -1;
}

static int flush(struct conn *conn) {
    while (conn->now.count || conn->then.count || conn->file_left) {
        if (!conn->now.count) conn->now = conn->then, conn->then.count = 0;
        int from_memory = conn->now.count > 0;
        ssize_t sent = from_memory
            ? put(conn, conn->now.bytes, conn->now.count, conn->file_left || conn->then.count) : put_file(conn);
        if (sent < 0) return -1;
        if (!sent) {
            if (!conn->is_writing) watch(poll, EPOLL_CTL_MOD, conn->fd, EPOLLOUT, conn);
            return conn->is_writing = 1, 0;
        }
        if (from_memory) conn->now.bytes += sent, conn->now.count -= sent;
        else conn->file_left -= sent;
    }
    if (conn->is_writing) watch(poll, EPOLL_CTL_MOD, conn->fd, EPOLLIN, conn);
    conn->is_writing = 0;
#ifdef WITH_TLS
    if (conn->ends && conn->tls) SSL_shutdown(conn->tls);
#endif
    return conn->ends ? -1 : 1;
}

static void choose_big(struct conn *conn) {
    size_t first = 0, last = big.count - 1;
    int is_part = range_in(conn->bytes, big.count, &first, &last), head;
    if (is_part) {
        head = sprintf(conn->head, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %zu-%zu/%zu\r\n"
            "Content-Length: %zu\r\n\r\n", first, last, big.count, last - first + 1);
    } else {
        head = sprintf(conn->head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", big.count);
    }
    conn->now = (struct span){conn->head, head};
    if (conn->tls || is_copying) {
        conn->then = (struct span){big.bytes + first, last - first + 1};
    } else {
        conn->file_at = first;
        conn->file_left = last - first + 1;
    }
}

static void choose(struct conn *conn) {
    conn->ends = !!strcasestr(conn->bytes, "\r\nConnection: close");
    if (!memcmp(conn->bytes, "GET /100m", 9)) return choose_big(conn);
    if (!memcmp(conn->bytes, "GET /100k", 9)) conn->now = middle;
    else conn->now = strstr(conn->bytes, "\r\nIf-None-Match:") ? unchanged : small;
}

static ssize_t get(struct conn *conn) {
    char *to = conn->bytes + conn->count;
    size_t room = REQUEST_MAX - 1 - conn->count;
#ifdef WITH_TLS
    if (conn->tls) {
        ERR_clear_error();
        int count = SSL_read(conn->tls, to, room);
        return count > 0 ? count : SSL_get_error(conn->tls, count) == SSL_ERROR_WANT_READ ? 0 : -1;
    }
#endif
    ssize_t count = recv(conn->fd, to, room, 0);
    return count > 0 ? count : count < 0 && errno == EAGAIN ? 0 : -1;
}

static void hear(struct conn *conn) {
    ssize_t count = get(conn);
    if (count < 0) return part(conn);
    conn->bytes[conn->count += count] = 0;
    if (conn->count < 4 || memcmp(conn->bytes + conn->count - 4, "\r\n\r\n", 4)) {
        if (conn->count == REQUEST_MAX - 1) part(conn);
        return;
    }
    choose(conn);
    conn->count = 0;
    if (flush(conn) < 0) part(conn);
}

/* Answers here fit the socket's buffer, so that a relay never has to wait for its other side. */
static void pass(struct conn *conn) {
    ssize_t count = recv(conn->fd, conn->bytes, REQUEST_MAX, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0 || send(conn->other->fd, conn->bytes, count, 0) != count) part(conn);
}

static struct conn *adopt(int fd, enum kind kind) {
    struct conn *conn = calloc(1, sizeof *conn);
    conn->fd = fd;
    conn->kind = kind;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN, conn);
    return conn;
}

static void welcome(struct conn *listener) {
    for (int fd; (fd = accept(listener->fd, NULL, NULL)) >= 0;) {
        struct conn *conn = adopt(fd, listener->kind == RELAY_LISTENER ? RELAY : CLIENT);
        if (conn->kind == RELAY) {
            conn->other = adopt(connection_to(origin_port, 0), RELAY);
            conn->other->other = conn;
        }
#ifdef WITH_TLS
        if (listener->kind == HTTPS_LISTENER) {
            conn->tls = SSL_new(context);
            SSL_set_fd(conn->tls, fd);
            SSL_set_accept_state(conn->tls);
        }
#endif
    }
}

static void prepare_tls(const char *certificate, const char *key) {
#ifdef WITH_TLS
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1) exit(1);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) exit(1);
#else
    (void)certificate, (void)key;
#endif
}

int main(int count, char **words) {
    if (count < 8) return fprintf(stderr, "usage: limit HTTP HTTPS RELAY ORIGIN FOLDER CERTIFICATE KEY [copy]\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    char path[1024];
    snprintf(path, sizeof path, "%s/100m", words[5]);
    if ((big_fd = open(path, O_RDONLY)) < 0) give_up(path);
    origin_port = atoi(words[4]);
    is_copying = count > 8 && !strcmp(words[8], "copy");
    small = with_head(file_in(words[5], "1k"), "/1k");
    middle = with_head(file_in(words[5], "100k"), "/100k");
    unchanged.bytes = "HTTP/1.1 304 Not Modified\r\nETag: \"bench/1k\"\r\n\r\n";
    unchanged.count = strlen(unchanged.bytes);
    big = is_copying ? in_huge_pages(file_at(path)) : file_at(path);
    prepare_tls(words[6], words[7]);
    poll = epoll_create1(0);
    for (int kind = HTTP_LISTENER; kind <= RELAY_LISTENER; kind++) {
        struct conn *listener = calloc(1, sizeof *listener);
        *listener = (struct conn){.kind = kind, .fd = listener_at(atoi(words[1 + kind]))};
        watch(poll, EPOLL_CTL_ADD, listener->fd, EPOLLIN, listener);
    }
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS_MAX, -1);
        for (int at = 0; at < ready; at++) {
            struct conn *conn = events[at].data.ptr;
            if (conn->fd < 0) continue;
            if (conn->kind <= RELAY_LISTENER) welcome(conn);
            else if (conn->kind == RELAY) pass(conn);
            else if (!conn->is_writing) hear(conn);
            else if (flush(conn) < 0) part(conn);
        }
        for (struct conn *next; gone; gone = next) next = gone->next_gone, free(gone);
    }
}
