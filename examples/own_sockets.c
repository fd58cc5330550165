/*
 * A mail server in the host's own event loop: own_sockets DIRECTORY
 *
 * The same as mail_server.c for whoever connects, but the engine is never started: listeners, sockets and the loop
 * (one thread, epoll(7)) are the host's, each connection is a ph_connection. When the engine works on an answer (a password, the disk)
 * it calls wake(), which makes an eventfd(2) readable. Makes an instance in the directory (or opens the one that is there)
 * with the account user1@example.test, serves SMTP and POP3 on 127.0.0.1, prints "ready smtp=... pop3=...", and runs until its
 * standard input ends. Each line of the input names a file, which is sent to user1 as a message.
 *
 *     cc own_sockets.c -o own_sockets -lposthouse
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "posthouse.h"

enum { INPUT = 65536, EVENTS = 64 };

struct connection {
    struct connection *next;
    ph_connection *engine_side;
    int socket;
    int waiting;           /* the engine works on an answer */
    int full;              /* the socket takes no more output now */
    size_t len;            /* octets of input that are not consumed yet */
    uint8_t input[INPUT];
};

static struct connection *connections;
static ph_engine *engine;
static int loop, woken;
static char message[32 << 20];

/* On a thread of the engine: an answer has come. */
static void wake(void *user_data)
{
    uint64_t one = 1;
    (void)user_data;
    if (write(woken, &one, sizeof one) < 0)
        perror("eventfd");
}

/* Tells epoll what this connection waits for. */
static void watch(struct connection *c, int how)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.data.ptr = c;
    event.events = c->full ? EPOLLOUT : c->waiting || c->len == INPUT ? 0 : EPOLLIN;
    epoll_ctl(loop, how, c->socket, &event);
}

/* Writes what is pending. -1: the socket is broken. */
static int drain(struct connection *c)
{
    ph_bytes pending;
    c->full = 0;
    for (ph_connection_output(c->engine_side, &pending); pending.len > 0; ph_connection_output(c->engine_side, &pending)) {
        ssize_t written = send(c->socket, pending.data, pending.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return -1;
        if (written <= 0) {
            c->full = 1;
            break;
        }
        ph_connection_output_sent(c->engine_side, (size_t)written);
    }
    return 0;
}

/* Steps a connection as far as it goes. -1: it is over. */
static int advance(struct connection *c)
{
    uint32_t state = PH_CONNECTION_BLOCKED;
    size_t used = 0, consumed;
    while (state == PH_CONNECTION_BLOCKED && !c->full) {
        if (ph_connection_step(c->engine_side, c->input + used, c->len - used, &consumed, &state, NULL) != PH_OK)
            return -1;
        used += consumed;
        if (drain(c) != 0 || state == PH_CONNECTION_CLOSED)
            return -1;
    }
    c->waiting = state == PH_CONNECTION_WAITING;
    c->len -= used;
    memmove(c->input, c->input + used, c->len);
    return 0;
}

static void drop(struct connection *c)
{
    struct connection **link = &connections;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    ph_connection_free(c->engine_side);
    close(c->socket);
    free(c);
}

static void add(int listener, const char *protocol)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int socket = accept(listener, (struct sockaddr *)&address, &size), on = 1;
    char peer[32];
    ph_connection_options options = PH_CONNECTION_OPTIONS_INIT;
    struct connection *c = socket < 0 ? NULL : calloc(1, sizeof *c);
    ph_error err = PH_ERROR_INIT;
    if (c == NULL) {
        if (socket >= 0)
            close(socket);
        return;
    }
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sprintf(peer, "%s:%u", inet_ntoa(address.sin_addr), (unsigned)ntohs(address.sin_port));
    options.protocol = protocol;
    options.peer = peer;
    options.ready = wake;
    c->socket = socket;
    if (ph_connection_new(engine, &options, &c->engine_side, &err) != PH_OK) {
        fprintf(stderr, "own_sockets: %s\n", err.message);
        close(socket);
        free(c);
        return;
    }
    c->next = connections;
    connections = c;
    watch(c, EPOLL_CTL_ADD);
    if (advance(c) != 0)
        drop(c);
    else
        watch(c, EPOLL_CTL_MOD);
}

static void serve(struct connection *c, uint32_t events)
{
    int over = drain(c) != 0;
    if (!over && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !c->waiting && c->len < INPUT) {
        ssize_t got = recv(c->socket, c->input + c->len, INPUT - c->len, MSG_DONTWAIT);
        if (got > 0)
            c->len += (size_t)got;
        else if (got == 0)
            ph_connection_eof(c->engine_side);
        else
            over = errno != EAGAIN && errno != EWOULDBLOCK;
    }
    if (over || advance(c) != 0)
        drop(c);
    else
        watch(c, EPOLL_CTL_MOD);
}

/* A listener on a port that the system chooses, in the loop; prints its address. */
static int listening(const char *name, void *mark)
{
    struct sockaddr_in address;
    struct epoll_event event;
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.ptr = mark;
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 128) != 0
        || getsockname(listener, (struct sockaddr *)&address, &size) != 0
        || epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event) != 0)
        return perror(name), exit(1), -1;
    printf(" %s=127.0.0.1:%u", name, (unsigned)ntohs(address.sin_port));
    return listener;
}

/* Reads a file and gives it to the engine, which has it on disk when the call returns. */
static void submit(const char *path, ph_bytes user)
{
    FILE *file = fopen(path, "rb");
    ph_error err = PH_ERROR_INIT;
    ph_bytes text;
    uint64_t id = 0;
    text.data = (const uint8_t *)message;
    text.len = file == NULL ? 0 : fread(message, 1, sizeof message, file);
    if (file == NULL)
        printf("failed %s: cannot open\n", path);
    else if (ph_engine_submit(engine, user, &user, 1, text, &id, &err) != PH_OK)
        printf("failed %s: %s\n", path, err.message);
    else
        printf("submitted %08lx%08lx\n", (unsigned long)(id >> 32), (unsigned long)(id & 0xffffffff));
    if (file != NULL)
        fclose(file);
    fflush(stdout);
}

/* The names of files that came in, a line each. 0: the input has ended. */
static int commands(ph_bytes user)
{
    static char lines[4096];
    static size_t len;
    char *end;
    ssize_t got = read(STDIN_FILENO, lines + len, sizeof lines - len);
    if (got <= 0)
        return 0;
    len += (size_t)got;
    while ((end = memchr(lines, '\n', len)) != NULL) {
        *end = '\0';
        submit(lines, user);
        len -= (size_t)(end + 1 - lines);
        memmove(lines, end + 1, len);
    }
    return len < sizeof lines;
}

static void run(ph_bytes user)
{
    static int smtp_mark, pop3_mark, wake_mark, input_mark;
    struct epoll_event events[EVENTS], event;
    int i, count, smtp, pop3, going = 1;
    loop = epoll_create1(0);
    woken = eventfd(0, EFD_NONBLOCK);
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    event.data.ptr = &wake_mark;
    epoll_ctl(loop, EPOLL_CTL_ADD, woken, &event);
    event.data.ptr = &input_mark;
    epoll_ctl(loop, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    printf("ready");
    smtp = listening("smtp", &smtp_mark);
    pop3 = listening("pop3", &pop3_mark);
    puts("");
    fflush(stdout);
    while (going) {
        uint64_t next = 60000, answers;
        struct connection *c, *following;
        for (c = connections; c != NULL; c = c->next) {
            uint64_t due = ph_connection_timeout(c->engine_side);
            next = due < next ? due : next;
        }
        count = epoll_wait(loop, events, EVENTS, (int)next);
        for (i = 0; i < count; i++) {
            if (events[i].data.ptr == &smtp_mark)
                add(smtp, "smtp");
            else if (events[i].data.ptr == &pop3_mark)
                add(pop3, "pop3");
            else if (events[i].data.ptr == &input_mark)
                going = commands(user);
            else if (events[i].data.ptr == &wake_mark)
                answers = 0, (void)!read(woken, &answers, sizeof answers);
            else
                serve(events[i].data.ptr, events[i].events);
        }
        /* Answers that have come, and time-outs. What is not due steps for nothing, and says so. */
        for (c = connections; c != NULL; c = following) {
            following = c->next;
            if (c->waiting || ph_connection_timeout(c->engine_side) == 0)
                serve(c, 0);
        }
    }
    while (connections != NULL)
        drop(connections);
    close(smtp), close(pop3), close(woken), close(loop);
}

int main(int argc, char **argv)
{
    const char *domain = "example.test";
    ph_bytes user = ph_bytes_of("user1@example.test");
    ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
    ph_account_options account = PH_ACCOUNT_OPTIONS_INIT;
    ph_error err = PH_ERROR_INIT;

    if (argc < 2)
        return fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]), 2;
    setup.hostname = "mail.example.test";
    setup.domains = &domain, setup.domain_count = 1;
    setup.postmaster_password = account.password = ph_bytes_of("correct horse");
    account.addresses = &user, account.address_count = 1;
    if ((ph_instance_setup(argv[1], &setup, &err) == PH_OK || err.code == PH_E_EXISTS)
        && ph_engine_open(argv[1], NULL, &engine, &err) == PH_OK
        && (ph_account_add(engine, &account, &err) == PH_OK || err.code == PH_E_EXISTS))
        run(user);
    else
        fprintf(stderr, "own_sockets: %s\n", err.message);
    return ph_engine_close(engine, &err) != PH_OK;
}
