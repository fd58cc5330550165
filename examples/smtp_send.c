/*
 * A sender: smtp_send HOST PORT FROM TO[,TO...] FILE [lmtp]
 *
 * Sends a file to the mail server at HOST (an IPv4 address) and PORT, with a bare ph_smtp_client session on a socket of its own
 * and poll(2), and prints each recipient's outcome. It shows who does what: the host owns socket, clock and file, the session
 * speaks SMTP. There is no TLS here: TLS is the host's, who makes the handshake when PH_SMTP_CLIENT_STARTTLS comes and
 * goes on with the decrypted octets; this program tells the session not to ask for it.
 *
 *     cc smtp_send.c -o smtp_send -lposthouse
 *
 * Ends with 0 when every recipient has the message, 1 when not, 2 when it was called wrongly.
 */
#define _POSIX_C_SOURCE 200112L
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "posthouse.h"

enum { RECIPIENTS = 100, INPUT = 16384, PIECE = 16384 };

static uint8_t input[INPUT];
static size_t input_len;
static uint8_t piece[PIECE];
static ph_smtp_recipient recipients[RECIPIENTS];
static size_t recipient_count;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static const char *verdict_name(uint32_t verdict)
{
    switch (verdict) {
    case PH_VERDICT_DELIVERED: return "delivered";
    case PH_VERDICT_TEMPORARY: return "temporary";
    case PH_VERDICT_PERMANENT: return "permanent";
    case PH_VERDICT_UNKNOWN: return "unknown";
    default: return "not tried";
    }
}

/* One line, whatever the peer said. */
static void print_reply(const ph_smtp_client_event *event)
{
    size_t i;
    printf("%u ", (unsigned)event->code);
    for (i = 0; i < event->text.len; i++)
        putchar(event->text.data[i] == '\n' ? '/' : event->text.data[i]);
    putchar('\n');
}

/* Writes what is pending, then waits for input, for room, or for the deadline. 0 when the socket is broken. */
static int exchange(ph_smtp_client *session, int fd, int wants_input)
{
    uint64_t deadline, now;
    struct pollfd polled;
    ph_bytes pending;
    int wait;
    ph_smtp_client_output(session, &pending);
    polled.fd = fd;
    polled.events = (short)((wants_input ? POLLIN : 0) | (pending.len > 0 ? POLLOUT : 0));
    if (polled.events == 0)
        return 1;
    deadline = ph_smtp_client_deadline(session);
    now = now_ms();
    wait = deadline == PH_NEVER ? -1 : deadline <= now ? 0 : deadline - now > 60000 ? 60000 : (int)(deadline - now);
    if (poll(&polled, 1, wait) < 0)
        return errno == EINTR;
    if (polled.revents & POLLIN) {
        ssize_t got = recv(fd, input + input_len, INPUT - input_len, MSG_DONTWAIT);
        if (got > 0)
            input_len += (size_t)got;
        else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            ph_smtp_client_eof(session, now_ms());
    } else if (polled.revents & (POLLERR | POLLHUP | POLLNVAL)) {
        ph_smtp_client_eof(session, now_ms());
        return !(pending.len > 0);
    }
    if (polled.revents & POLLOUT) {
        ssize_t written = send(fd, pending.data, pending.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written > 0)
            ph_smtp_client_output_sent(session, (size_t)written);
        else if (errno != EAGAIN && errno != EWOULDBLOCK)
            return 0;
    }
    return 1;
}

/* From greeting to end. The number of recipients that have the message. */
static size_t converse(ph_smtp_client *session, int fd, const char *from, FILE *file)
{
    ph_smtp_client_event event = PH_SMTP_CLIENT_EVENT_INIT;
    ph_smtp_transaction transaction = PH_SMTP_TRANSACTION_INIT;
    size_t consumed, got, delivered = 0;
    for (;;) {
        if (ph_smtp_client_step(session, now_ms(), input, input_len, &consumed, &event) != PH_OK)
            return delivered;
        /* The event points into the session and not into the input, so this is allowed at once. */
        memmove(input, input + consumed, input_len - consumed);
        input_len -= consumed;
        switch (event.kind) {
        case PH_SMTP_CLIENT_NEED_INPUT:
        case PH_SMTP_CLIENT_BLOCKED:
            if (!exchange(session, fd, event.kind == PH_SMTP_CLIENT_NEED_INPUT)) {
                ph_smtp_client_eof(session, now_ms());
                ph_smtp_client_output_sent(session, (size_t)-1);
            }
            break;
        case PH_SMTP_CLIENT_READY:
            transaction.from = ph_bytes_of(from);
            transaction.recipients = recipients;
            transaction.recipient_count = recipient_count;
            transaction.content = PH_CONTENT_8BIT;
            if (ph_smtp_client_begin(session, &transaction) != PH_OK) {
                fprintf(stderr, "smtp_send: an address cannot be sent\n");
                ph_smtp_client_quit(session);
            }
            break;
        case PH_SMTP_CLIENT_NEED_BODY:
            got = fread(piece, 1, event.size < PIECE ? (size_t)event.size : PIECE, file);
            if (got > 0) {
                ph_bytes data;
                data.data = piece;
                data.len = got;
                ph_smtp_client_body(session, data);
            } else if (ferror(file)) {
                ph_smtp_client_body_failed(session, ph_bytes_of("the file cannot be read"));
            } else {
                ph_smtp_client_body_end(session);
            }
            break;
        case PH_SMTP_CLIENT_RECIPIENT:
            printf("%.*s: %s: ", (int)recipients[event.index].address.len,
                   (const char *)recipients[event.index].address.data, verdict_name(event.verdict));
            print_reply(&event);
            break;
        case PH_SMTP_CLIENT_DONE:
            delivered = (size_t)event.size;
            ph_smtp_client_quit(session);
            break;
        case PH_SMTP_CLIENT_FAILED:
            printf("failed: %s: ", verdict_name(event.verdict));
            print_reply(&event);
            break;
        case PH_SMTP_CLIENT_CLOSED:
            exchange(session, fd, 0);
            return delivered;
        default: /* PH_SMTP_CLIENT_STARTTLS does not come: the options say so. */
            return delivered;
        }
    }
}

int main(int argc, char **argv)
{
    ph_smtp_client_options options = PH_SMTP_CLIENT_OPTIONS_INIT;
    ph_smtp_client *session = NULL;
    ph_error err = PH_ERROR_INIT;
    struct sockaddr_in address;
    size_t delivered;
    FILE *file;
    char *to;
    int fd;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    if (argc < 6 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
        fprintf(stderr, "usage: smtp_send HOST PORT FROM TO[,TO...] FILE [lmtp]\n");
        return 2;
    }
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    for (to = strtok(argv[4], ","); to != NULL && recipient_count < RECIPIENTS; to = strtok(NULL, ","))
        recipients[recipient_count++].address = ph_bytes_of(to);
    file = fopen(argv[5], "rb");
    if (file == NULL)
        return perror(argv[5]), 2;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return perror("smtp_send: connect"), 1;

    options.hostname = "client.example.test";
    options.flags = PH_SMTP_CLIENT_TLS_NEVER | (argc > 6 && strcmp(argv[6], "lmtp") == 0 ? PH_SMTP_CLIENT_LMTP : 0);
    if (ph_smtp_client_new(&options, now_ms(), &session, &err) != PH_OK) {
        fprintf(stderr, "smtp_send: %s\n", err.message);
        return 2;
    }
    delivered = converse(session, fd, argv[3], file);
    ph_smtp_client_free(session);
    close(fd);
    fclose(file);
    return delivered == recipient_count ? 0 : 1;
}
