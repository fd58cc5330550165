/*
 * Random sequences of calls on sessions, from fixed seeds: calls out of turn, wrong arguments, and input from a peer that
 * sends nonsense, cut anywhere. Nothing crashes, nothing is an internal error, output stays bounded, and every answer is one
 * that the header names.
 */
#include "test.h"

static uint64_t state;

/* Kinds of events that came, so that sequences which stopped short of something would be noticed. */
static unsigned smtp_seen[PH_SMTP_QUIT + 1], pop3_seen[PH_POP3_UPDATE + 1];

static uint32_t below(uint32_t bound)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % bound);
}

static const char *const smtp_words[] = {
    "EHLO client.example\r\n", "HELO x\r\n", "MAIL FROM:<a@b.example>\r\n", "MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
    "RCPT TO:<c@d.example>\r\n", "DATA\r\n", "text\r\n", "..\r\n", ".\r\n", "\r\n.\r\n", "BDAT 5\r\n", "BDAT 0 LAST\r\n",
    "hello", "RSET\r\n", "NOOP\r\n", "VRFY x\r\n", "HELP\r\n", "STARTTLS\r\n", "AUTH PLAIN\r\n", "AUTH LOGIN\r\n", "*\r\n",
    "AHRpbQB0YW5zdGFhZg==\r\n", "dGlt\r\n", "QUIT\r\n", "\n", "\r", "\0", "MAIL", " FROM:", "<", ">\r\n", "\377\376", "AUTH "};

static const char *const pop3_words[] = {
    "USER tim\r\n", "PASS secret\r\n", "STAT\r\n", "LIST\r\n", "LIST 1\r\n", "UIDL\r\n", "RETR 1\r\n", "RETR 2\r\n",
    "TOP 1 0\r\n", "TOP 2 99\r\n", "DELE 1\r\n", "DELE 9\r\n", "RSET\r\n", "NOOP\r\n", "CAPA\r\n", "STLS\r\n", "QUIT\r\n",
    "AUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n", "AUTH LOGIN\r\n", "*\r\n", "dGlt\r\n", "\n", "\r\n", "\r", "\377", "RETR "};

/* What a sensible peer would say, which the random words interrupt. */
static const char *const smtp_course[] = {
    "EHLO client.example\r\n", "AUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n",
    "DATA\r\n", "text\r\n", ".\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<c@d.example>\r\n", "BDAT 5\r\n", "hello", "BDAT 0 LAST\r\n",
    "MAIL FROM:<>\r\n", "RSET\r\n", "STARTTLS\r\n"};

static const char *const pop3_course[] = {
    "USER tim\r\n", "PASS secret\r\n", "STAT\r\n", "RETR 1\r\n", "TOP 2 1\r\n", "DELE 1\r\n", "RETR 2\r\n", "CAPA\r\n", "QUIT\r\n"};

/* What is not consumed yet, as a host keeps it. */
struct input {
    uint8_t octets[8192];
    size_t len;
    uint32_t said;
};

static void feed(struct input *input, const char *const *words, uint32_t count,
                 const char *const *course, uint32_t course_count)
{
    const char *word = below(8) == 0 ? words[below(count)] : course[input->said++ % course_count];
    size_t len = strlen(word) + (word[0] == '\0'); /* the NUL is a word too */
    if (input->len + len > sizeof input->octets)
        return;
    memcpy(input->octets + input->len, word, len);
    input->len += len;
}

static void consume(struct input *input, size_t consumed)
{
    CHECK(consumed <= input->len);
    memmove(input->octets, input->octets + consumed, input->len - consumed);
    input->len -= consumed;
}

static void expected(ph_status status)
{
    CHECK(status == PH_OK || status == PH_E_STATE || status == PH_E_INVALID_ARGUMENT || status == PH_E_UTF8
          || status == PH_E_NULL);
}

static void smtp(void)
{
    static struct input input;
    ph_smtp_server_options options = PH_SMTP_SERVER_OPTIONS_INIT;
    ph_smtp_event event = PH_SMTP_EVENT_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_smtp_server *session = NULL;
    ph_bytes pending, text = ph_bytes_of("some text");
    size_t consumed = 0;
    uint64_t now = 0;
    int i;
    options.offer = below(8);
    options.dialect = below(2);
    options.max_errors = 1 + below(100);
    options.max_message_bytes = 1 + below(200);
    options.max_recipients = 1 + below(4);
    options.max_output = below(2) * 600;
    OK(ph_smtp_server_new(&options, now, &session, &err));
    input.len = 0;
    input.said = below(2) ? 0 : below(20);
    for (i = 0; i < 400; i++) {
        now += below(1000);
        switch (below(12)) {
        case 0: case 1: case 2:
            feed(&input, smtp_words, sizeof smtp_words / sizeof smtp_words[0], smtp_course,
                 sizeof smtp_course / sizeof smtp_course[0]);
            break;
        case 3: case 4: case 5: case 6: {
            ph_status status = ph_smtp_server_step(session, now, input.octets, below(2) ? input.len : below((uint32_t)input.len + 1), &consumed, &event);
            expected(status);
            consume(&input, consumed);
            if (status == PH_OK)
                smtp_seen[event.kind]++;
            if (status == PH_OK && event.flags & PH_SMTP_FLAG_PAUSED && below(8) != 0) {
                if (event.kind == PH_SMTP_AUTH)
                    expected(ph_smtp_server_auth(session, below(2) ? PH_AUTH_ACCEPT : 1 + below(3)));
                else if (event.kind == PH_SMTP_STARTTLS)
                    expected(ph_smtp_server_tls_started(session, below(8), input.octets, below(2) ? input.len : 0));
                else if (below(10) != 0)
                    expected(ph_smtp_server_accept(session));
                else
                    expected(ph_smtp_server_reply(session, 200 + below(400), ph_bytes_of(""), text));
            }
            break;
        }
        case 7:
            ph_smtp_server_output(session, &pending);
            CHECK(pending.len < 200000);
            ph_smtp_server_output_sent(session, below((uint32_t)pending.len + 2));
            break;
        case 8:
            expected(ph_smtp_server_reply(session, below(700), ph_bytes_of(below(2) ? "5.0.0" : "x"), text));
            break;
        case 9:
            expected(ph_smtp_server_accept(session));
            break;
        case 10:
            (void)ph_smtp_server_deadline(session);
            break;
        default:
            if (below(40) == 0)
                expected(ph_smtp_server_eof(session, now));
            if (below(40) == 0)
                expected(ph_smtp_server_shutdown(session));
            expected(ph_smtp_server_auth(session, below(5)));
        }
    }
    ph_smtp_server_free(session);
}

static void pop3(void)
{
    static const char *const maildrop[] = {"Subject: one\r\n\r\nfirst\r\n", "\r\n.\r\n..\r\nlast"};
    static struct input input;
    ph_pop3_server_options options = PH_POP3_SERVER_OPTIONS_INIT;
    ph_pop3_event event = PH_POP3_EVENT_INIT;
    ph_pop3_maildrop drop = PH_POP3_MAILDROP_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_pop3_server *session = NULL;
    ph_bytes pending, data;
    uint64_t octets[2], now = 0;
    uint32_t uids[2];
    size_t consumed = 0;
    int i;
    octets[0] = strlen(maildrop[0]);
    octets[1] = below(2) ? strlen(maildrop[1]) : 1000; /* the host's mistake, or a damaged message */
    uids[0] = 1;
    uids[1] = 2;
    drop.uid_validity = 1;
    drop.octets = octets;
    drop.uids = uids;
    drop.count = below(3);
    options.offer = below(8);
    options.max_errors = 1 + below(100);
    options.max_output = below(2) * 300;
    OK(ph_pop3_server_new(&options, now, &session, &err));
    input.len = 0;
    input.said = below(2) ? 0 : below(20);
    for (i = 0; i < 400; i++) {
        now += below(1000);
        switch (below(10)) {
        case 0: case 1: case 2:
            feed(&input, pop3_words, sizeof pop3_words / sizeof pop3_words[0], pop3_course,
                 sizeof pop3_course / sizeof pop3_course[0]);
            break;
        case 3: case 4: case 5: case 6: {
            ph_status status = ph_pop3_server_step(session, now, input.octets, below(2) ? input.len : below((uint32_t)input.len + 1), &consumed, &event);
            expected(status);
            consume(&input, consumed);
            if (status == PH_OK)
                pop3_seen[event.kind]++;
            if (status != PH_OK || below(8) == 0)
                break;
            if (event.kind == PH_POP3_CONNECT)
                expected(ph_pop3_server_accept(session));
            if (event.kind == PH_POP3_STARTTLS)
                expected(ph_pop3_server_tls_started(session, below(8), input.octets, below(2) ? input.len : 0));
            if (event.kind == PH_POP3_AUTH)
                expected(below(4) ? ph_pop3_server_opened(session, &drop) : ph_pop3_server_denied(session, 1 + below(3)));
            if (event.kind == PH_POP3_UPDATE)
                expected(ph_pop3_server_updated(session, below(2)));
            if (event.kind == PH_POP3_NEED_BODY) {
                CHECK(event.index < drop.count);
                data = ph_bytes_of(maildrop[event.index]);
                if (event.offset >= data.len || below(20) == 0) {
                    expected(below(4) ? ph_pop3_server_body_end(session) : ph_pop3_server_body_failed(session));
                } else {
                    data.data += event.offset;
                    data.len = 1 + below((uint32_t)(data.len - event.offset));
                    expected(ph_pop3_server_body(session, data));
                }
            }
            break;
        }
        case 7:
            ph_pop3_server_output(session, &pending);
            CHECK(pending.len < 400000);
            ph_pop3_server_output_sent(session, below((uint32_t)pending.len + 2));
            break;
        case 8:
            expected(ph_pop3_server_updated(session, below(3)));
            expected(ph_pop3_server_body(session, ph_bytes_of("x")));
            expected(ph_pop3_server_opened(session, &drop));
            break;
        default:
            if (below(40) == 0)
                expected(ph_pop3_server_eof(session, now));
            if (below(40) == 0)
                expected(ph_pop3_server_shutdown(session));
            (void)ph_pop3_server_deadline(session);
        }
    }
    ph_pop3_server_free(session);
}

int main(void)
{
    uint64_t seed;
    uint32_t kind;
    for (seed = 1; seed <= 500; seed++) {
        state = seed * 0x9e3779b9u + 1;
        smtp();
        pop3();
    }
    for (kind = PH_SMTP_CONNECT; kind <= PH_SMTP_QUIT; kind++)
        {
        if (smtp_seen[kind] == 0)
            fprintf(stderr, "no event %u came\n", (unsigned)kind);
        CHECK(smtp_seen[kind] > 0);
    }
    for (kind = PH_POP3_CONNECT; kind <= PH_POP3_UPDATE; kind++)
        {
        if (pop3_seen[kind] == 0)
            fprintf(stderr, "no event %u came\n", (unsigned)kind);
        CHECK(pop3_seen[kind] > 0);
    }
    CHECK(smtp_seen[PH_SMTP_BLOCKED] > 0);
    CHECK(pop3_seen[PH_POP3_BLOCKED] > 0);
    use_everything();
    puts("sequences: ok");
    return 0;
}
