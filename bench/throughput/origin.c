/* The origin of the benchmark: one thread, HTTP/1.1, answers made beforehand.
 *
 * usage: origin FOLDER DELAY_MS     prints its port, then serves until it is killed
 *   /1k /100k /100m    the files of FOLDER: ETag, Last-Modified, max-age of a day, single ranges
 *   /miss /no-store    the bytes of 1k with Cache-Control: no-store
 *   /slow/ANYTHING     the bytes of 1m, cacheable, after DELAY_MS
 *   /count             how often each of these was asked for, in this order, and anything else; itself not counted
 */
#include "net.h"
#include <sys/uio.h>

enum { HEAD_MAX = 512, REQUEST_MAX = 16384 };

struct answer { const char *path; char head[HEAD_MAX]; size_t head_bytes; struct span body; long asked; };

struct client {
    int fd, is_writing;
    char request[REQUEST_MAX];
    size_t request_bytes;
    char head[HEAD_MAX];
    size_t head_bytes, sent;
    struct span body;
    double due_s;
    struct client *later;
};

static int poll;
static long unknown_asked;
static double delay_s;
static struct client *first_due, **last_due = &first_due;
static struct answer answers[6];
enum { SLOW = 5 };

static void prepare(int at, const char *path, struct span body, const char *caching) {
    struct answer *answer = &answers[at];
    answer->path = path;
    answer->body = body;
    answer->head_bytes = snprintf(answer->head, HEAD_MAX,
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n"
        "Last-Modified: Sat, 01 Aug 2026 00:00:00 GMT\r\nETag: \"bench%s\"\r\nAccept-Ranges: bytes\r\n"
        "Cache-Control: %s\r\nContent-Length: %zu\r\n\r\n", path, caching, body.count);
}

/* The date has to be true, or a cache takes the object for old. */
static void stamp(void) {
    char date[40];
    time_t now = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    for (int at = 0; at <= SLOW; at++) memcpy(strstr(answers[at].head, "Date: ") + 6, date, strlen(date));
}

static struct answer *answer_for(const char *path) {
    for (int at = 0; at <= SLOW; at++) {
        size_t length = strlen(answers[at].path);
        if (!strncmp(path, answers[at].path, length) && (at == SLOW || strchr(" ?", path[length]))) return &answers[at];
    }
    return NULL;
}

/* 206 keeps the fields of 200 but the first line and the length. */
static void cut(struct client *client, const struct answer *whole, size_t first, size_t last) {
    const char *fields = strchr(whole->head, '\n') + 1;
    int kept = strstr(fields, "Content-Length") - fields;
    client->body = (struct span){whole->body.bytes + first, last - first + 1};
    client->head_bytes = snprintf(client->head, HEAD_MAX,
        "HTTP/1.1 206 Partial Content\r\n%.*sContent-Range: bytes %zu-%zu/%zu\r\nContent-Length: %zu\r\n\r\n",
        kept, fields, first, last, whole->body.count, client->body.count);
}

static void say(struct client *client, const char *status, const char *text) {
    client->body = (struct span){NULL, 0};
    client->head_bytes = snprintf(client->head, HEAD_MAX,
        "HTTP/1.1 %s\r\nCache-Control: no-store\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(text), text);
}

static void say_counts(struct client *client) {
    char text[160];
    int length = 0;
    for (int at = 0; at <= SLOW; at++) length += sprintf(text + length, "%ld ", answers[at].asked);
    sprintf(text + length, "%ld\n", unknown_asked);
    say(client, "200 OK", text);
}

/* Chooses the answer to the request that lies in the buffer; whether it is to be delayed. */
static int choose(struct client *client) {
    char *path = strchr(client->request, ' ');
    size_t first, last;
    path = path ? path + 1 : client->request;
    if (!strncmp(path, "http://", 7)) path = strchr(path + 7, '/') ?: path;
    client->sent = 0;
    if (!strncmp(path, "/count", 6)) return say_counts(client), 0;
    struct answer *found = answer_for(path);
    if (!found) return unknown_asked++, say(client, "404 Not Found", ""), 0;
    found->asked++;
    if (range_in(client->request, found->body.count, &first, &last)) {
        cut(client, found, first, last);
    } else {
        memcpy(client->head, found->head, client->head_bytes = found->head_bytes);
        client->body = found->body;
    }
    if (client->request[0] == 'H') client->body.count = 0;
    return found == &answers[SLOW];
}

static void part(struct client *client) {
    close(client->fd);
    free(client);
}

/* 1: all is sent. 0: the rest when it can be written. -1: the client is gone. */
static int flush(struct client *client) {
    size_t all = client->head_bytes + client->body.count;
    while (client->sent < all) {
        size_t of_body = client->sent > client->head_bytes ? client->sent - client->head_bytes : 0;
        size_t of_head = client->sent - of_body;
        struct iovec parts[2] = {
            {client->head + of_head, client->head_bytes - of_head},
            {(char *)client->body.bytes + of_body, client->body.count - of_body}};
        ssize_t count = writev(client->fd, parts, 2);
        if (count < 0 && errno != EAGAIN) return -1;
        if (count < 0) {
            if (!client->is_writing) watch(poll, EPOLL_CTL_MOD, client->fd, EPOLLOUT, client);
            return client->is_writing = 1, 0;
        }
        client->sent += count;
    }
    if (client->is_writing) watch(poll, EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
    return client->is_writing = 0, 1;
}

/* Nobody listens to a client that waits: its next word is heard after the answer. */
static void postpone(struct client *client) {
    watch(poll, EPOLL_CTL_DEL, client->fd, 0, NULL);
    client->due_s = now_s() + delay_s;
    client->later = NULL;
    *last_due = client;
    last_due = &client->later;
}

static void hear(struct client *client) {
    char *at = client->request + client->request_bytes, *end;
    ssize_t count = recv(client->fd, at, REQUEST_MAX - 1 - client->request_bytes, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return part(client);
    client->request[client->request_bytes += count] = 0;
    if (!(end = strstr(client->request, "\r\n\r\n"))) return;
    client->request_bytes = 0;
    end[2] = 0;
    if (choose(client)) return postpone(client);
    if (flush(client) < 0) part(client);
}

static void wake(double now) {
    while (first_due && first_due->due_s <= now) {
        struct client *client = first_due;
        if (!(first_due = client->later)) last_due = &first_due;
        watch(poll, EPOLL_CTL_ADD, client->fd, EPOLLIN, client);
        if (flush(client) < 0) part(client);
    }
}

static void welcome(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        struct client *client = calloc(1, sizeof *client);
        client->fd = fd;
        set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN, client);
    }
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "usage: origin FOLDER DELAY_MS\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    const char *day = "public, max-age=86400";
    struct span small = file_in(words[1], "1k");
    prepare(0, "/1k", small, day);
    prepare(1, "/100k", file_in(words[1], "100k"), day);
    prepare(2, "/100m", file_in(words[1], "100m"), day);
    prepare(3, "/miss", small, "no-store");
    prepare(4, "/no-store", small, "no-store");
    prepare(SLOW, "/slow/", file_in(words[1], "1m"), day);
    delay_s = atoi(words[2]) * 1e-3;
    int listener = listener_at(0);
    poll = epoll_create1(0);
    watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    printf("%d\n", port_of(listener));
    fflush(stdout);
    struct epoll_event events[EVENTS_MAX];
    for (double stamped_s = 0;;) {
        double wait_s = first_due ? first_due->due_s - now_s() : -1;
        int ready = epoll_wait(poll, events, EVENTS_MAX, !first_due ? -1 : wait_s > 0 ? (int)(wait_s * 1e3) + 1 : 0);
        double now = now_s();
        if (now - stamped_s > 0.5) stamp(), stamped_s = now;
        wake(now);
        for (int at = 0; at < ready; at++) {
            struct client *client = events[at].data.ptr;
            if (!client) welcome(listener);
            else if (!client->is_writing) hear(client);
            else if (flush(client) < 0) part(client);
        }
    }
}
