/*
 * Bare sessions, driven in memory: whole, octet by octet, and with calls out of turn. No sockets, no files.
 */
#include "test.h"

/* What the peer saw and what the host got, collected over a conversation. */
struct talk {
    char wire[4096];
    size_t wire_len;
    char story[4096];
    size_t story_len;
    char body[4096];
    size_t body_len;
};

static void append(char *buffer, size_t *len, const void *data, size_t more)
{
    CHECK(*len + more < 4096);
    memcpy(buffer + *len, data, more);
    *len += more;
    buffer[*len] = '\0';
}

static void note(struct talk *talk, const char *what, ph_bytes detail)
{
    append(talk->story, &talk->story_len, what, strlen(what));
    append(talk->story, &talk->story_len, "(", 1);
    append(talk->story, &talk->story_len, detail.data, detail.len);
    append(talk->story, &talk->story_len, ")", 1);
}

static void drain_smtp(ph_smtp_server *session, struct talk *talk, size_t piece)
{
    ph_bytes pending;
    for (;;) {
        ph_smtp_server_output(session, &pending);
        if (pending.len == 0)
            return;
        if (pending.len > piece)
            pending.len = piece;
        append(talk->wire, &talk->wire_len, pending.data, pending.len);
        ph_smtp_server_output_sent(session, pending.len);
    }
}

/* Feeds input in pieces; answers every event; 1 when the session is over. */
static int smtp(ph_smtp_server *session, struct talk *talk, const char *input, size_t piece)
{
    size_t have = 0, used = 0, len = strlen(input), consumed = 0;
    ph_smtp_event event = PH_SMTP_EVENT_INIT;
    ph_bytes none = ph_bytes_of("");
    for (;;) {
        CHECK(ph_smtp_server_step(session, 1, (const uint8_t *)input + used, have - used, &consumed, &event) == PH_OK);
        CHECK(consumed <= have - used);
        used += consumed;
        switch (event.kind) {
        case PH_SMTP_NEED_INPUT:
            drain_smtp(session, talk, piece);
            if (have == len)
                return 0;
            have = have + piece < len ? have + piece : len;
            break;
        case PH_SMTP_BLOCKED:
            drain_smtp(session, talk, piece);
            break;
        case PH_SMTP_CLOSED:
            drain_smtp(session, talk, piece);
            return 1;
        case PH_SMTP_CONNECT:
            CHECK(event.flags & PH_SMTP_FLAG_PAUSED);
            CHECK(ph_smtp_server_step(session, 1, NULL, 0, &consumed, &event) == PH_E_STATE);
            CHECK(ph_smtp_server_auth(session, PH_AUTH_ACCEPT) == PH_E_STATE);
            CHECK(ph_smtp_server_accept(session) == PH_OK);
            CHECK(ph_smtp_server_accept(session) == PH_E_STATE);
            break;
        case PH_SMTP_HELLO:
            note(talk, event.flags & PH_SMTP_FLAG_EXTENDED ? "ehlo" : "helo", event.data);
            CHECK(ph_smtp_server_accept(session) == PH_OK);
            break;
        case PH_SMTP_AUTH:
            note(talk, "auth", event.login);
            CHECK(ph_smtp_server_auth(session, 77) == PH_E_INVALID_ARGUMENT);
            CHECK(ph_smtp_server_auth(session, same(event.password, "tanstaaf") ? PH_AUTH_ACCEPT : PH_AUTH_REFUSE) == PH_OK);
            break;
        case PH_SMTP_MAIL:
            note(talk, "mail", event.address);
            CHECK(ph_smtp_server_accept(session) == PH_OK);
            break;
        case PH_SMTP_RCPT:
            note(talk, "rcpt", event.address);
            if (same(event.address, "nobody@example.test")) {
                CHECK(ph_smtp_server_reply(session, 700, none, none) == PH_E_INVALID_ARGUMENT);
                CHECK(ph_smtp_server_reply(session, 550, ph_bytes_of("2.1.1"), none) == PH_E_INVALID_ARGUMENT);
                CHECK(ph_smtp_server_reply(session, 550, ph_bytes_of("5.1"), none) == PH_E_INVALID_ARGUMENT);
                CHECK(ph_smtp_server_reply(session, 550, none, ph_bytes_of("\377")) == PH_E_UTF8);
                CHECK(ph_smtp_server_reply(session, 550, ph_bytes_of("5.1.1"), ph_bytes_of("No such user")) == PH_OK);
            } else {
                CHECK(ph_smtp_server_accept(session) == PH_OK);
            }
            break;
        case PH_SMTP_DATA_START:
            CHECK(ph_smtp_server_accept(session) == PH_OK);
            break;
        case PH_SMTP_DATA_CHUNK:
            CHECK(!(event.flags & PH_SMTP_FLAG_PAUSED));
            append(talk->body, &talk->body_len, event.data.data, event.data.len);
            break;
        case PH_SMTP_DATA_END:
            CHECK(event.size == talk->body_len);
            note(talk, "end", none);
            CHECK(ph_smtp_server_reply(session, 250, ph_bytes_of("2.0.0"), ph_bytes_of("Kept")) == PH_OK);
            break;
        case PH_SMTP_RESET:
            note(talk, "reset", none);
            talk->body_len = 0;
            break;
        case PH_SMTP_QUIT:
            note(talk, "quit", none);
            break;
        default:
            CHECK(!"a known event");
        }
    }
}

static void smtp_conversations(void)
{
    static const char input[] =
        "EHLO client.example\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n"
        "MAIL FROM:<sender@elsewhere.test>\r\nRCPT TO:<user1@example.test>\r\nRCPT TO:<nobody@example.test>\r\n"
        "DATA\r\nSubject: x\r\n\r\n..dot\r\nend\r\n.\r\nQUIT\r\n";
    static const size_t pieces[] = {1, 2, 3, 7, 64, sizeof input};
    static struct talk whole, cut;
    ph_smtp_server_options options = PH_SMTP_SERVER_OPTIONS_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_smtp_server *session = NULL;
    size_t i;
    options.hostname = "mail.example.test";
    options.offer = PH_OFFER_AUTH;
    for (i = sizeof pieces / sizeof pieces[0]; i-- > 0;) {
        struct talk *talk = i + 1 == sizeof pieces / sizeof pieces[0] ? &whole : &cut;
        memset(talk, 0, sizeof *talk);
        OK(ph_smtp_server_new(&options, 0, &session, &err));
        CHECK(smtp(session, talk, input, pieces[i]) == 1);
        ph_smtp_server_free(session);
        if (talk == &cut) {
            CHECK(strcmp(cut.wire, whole.wire) == 0);
            CHECK(strcmp(cut.story, whole.story) == 0);
            CHECK(strcmp(cut.body, whole.body) == 0);
        }
    }
    CHECK(strcmp(whole.body, "Subject: x\r\n\r\n.dot\r\nend\r\n") == 0);
    CHECK(strcmp(whole.story, "ehlo(client.example)auth(tim)mail(sender@elsewhere.test)rcpt(user1@example.test)"
                              "rcpt(nobody@example.test)end()quit()") == 0);
    CHECK(strncmp(whole.wire, "220 mail.example.test ", 22) == 0);
    CHECK(strstr(whole.wire, "\r\n235 ") != NULL);
    CHECK(strstr(whole.wire, "\r\n550 5.1.1 No such user\r\n") != NULL);
    CHECK(strstr(whole.wire, "\r\n354 ") != NULL);
    CHECK(strstr(whole.wire, "\r\n250 2.0.0 Kept\r\n221 ") != NULL);
}

static void smtp_edges(void)
{
    static struct talk talk;
    static const char injected[] = "STARTTLS\r\nEHLO evil.example\r\n";
    ph_smtp_server_options options = PH_SMTP_SERVER_OPTIONS_INIT;
    ph_smtp_event event = PH_SMTP_EVENT_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_smtp_server *session = NULL;
    ph_bytes pending;
    size_t consumed = 0, at = 0;
    uint64_t deadline;

    /* Wrong options. */
    options.dialect = 9;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    CHECK(session == NULL);
    options.dialect = PH_SMTP_DIALECT_SUBMISSION;
    options.offer = 64;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    options.offer = 0;
    options.hostname = "mail\r\nexample";
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    options.hostname = NULL;
    options.max_command_line = 10;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    FAILS(PH_E_NULL, ph_smtp_server_new(NULL, 0, NULL, &err));

    /* Wrong arguments. */
    OK(ph_smtp_server_new(NULL, 0, &session, &err));
    CHECK(ph_smtp_server_step(NULL, 0, NULL, 0, &consumed, &event) == PH_E_NULL);
    CHECK(ph_smtp_server_step(session, 0, NULL, 0, NULL, &event) == PH_E_NULL);
    CHECK(ph_smtp_server_step(session, 0, NULL, 0, &consumed, NULL) == PH_E_NULL);
    CHECK(ph_smtp_server_step(session, 0, NULL, 5, &consumed, &event) == PH_E_NULL);
    event.struct_size = 4;
    CHECK(ph_smtp_server_step(session, 0, NULL, 0, &consumed, &event) == PH_E_STRUCT_SIZE);
    event.struct_size = (uint32_t)sizeof event;
    CHECK(ph_smtp_server_accept(session) == PH_E_STATE);
    CHECK(ph_smtp_server_deadline(NULL) == PH_NEVER);
    ph_smtp_server_output(NULL, &pending);
    CHECK(pending.len == 0);
    ph_smtp_server_output(session, NULL);
    ph_smtp_server_output_sent(NULL, 5);
    ph_smtp_server_output_sent(session, 500);

    /* A peer that says nothing: the deadline passes. */
    CHECK(ph_smtp_server_step(session, 0, NULL, 0, &consumed, &event) == PH_OK);
    CHECK(event.kind == PH_SMTP_CONNECT);
    CHECK(ph_smtp_server_accept(session) == PH_OK);
    CHECK(smtp(session, &talk, "", 1) == 0);
    deadline = ph_smtp_server_deadline(session);
    CHECK(deadline != PH_NEVER && deadline > 1);
    CHECK(ph_smtp_server_step(session, deadline, NULL, 0, &consumed, &event) == PH_OK);
    CHECK(event.kind == PH_SMTP_CLOSED);
    drain_smtp(session, &talk, 1000);
    CHECK(strstr(talk.wire, "\r\n421 ") != NULL);
    ph_smtp_server_free(session);

    /* A peer that goes away in the middle of a transaction, and a host that stops. */
    memset(&talk, 0, sizeof talk);
    OK(ph_smtp_server_new(NULL, 0, &session, &err));
    CHECK(smtp(session, &talk, "EHLO a.example\r\nMAIL FROM:<>\r\n", 100) == 0);
    CHECK(ph_smtp_server_eof(session, 2) == PH_OK);
    CHECK(smtp(session, &talk, "", 1) == 1);
    CHECK(strcmp(talk.story, "ehlo(a.example)mail()reset()") == 0);
    ph_smtp_server_free(session);
    memset(&talk, 0, sizeof talk);
    OK(ph_smtp_server_new(NULL, 0, &session, &err));
    CHECK(smtp(session, &talk, "EHLO a.example\r\n", 100) == 0);
    CHECK(ph_smtp_server_shutdown(session) == PH_OK);
    CHECK(smtp(session, &talk, "", 1) == 1);
    CHECK(strstr(talk.wire, "\r\n421 ") != NULL);
    ph_smtp_server_free(session);

    /* Plaintext behind STARTTLS is refused (RFC 3207; the session does not go on). */
    memset(&talk, 0, sizeof talk);
    options.max_command_line = 0;
    options.dialect = PH_SMTP_DIALECT_SMTP;
    options.offer = PH_OFFER_STARTTLS;
    OK(ph_smtp_server_new(&options, 0, &session, &err));
    CHECK(smtp(session, &talk, "EHLO a.example\r\n", 100) == 0);
    CHECK(strstr(talk.wire, "STARTTLS\r\n") != NULL);
    for (;;) {
        CHECK(ph_smtp_server_step(session, 1, (const uint8_t *)injected + at, strlen(injected) - at, &consumed, &event) == PH_OK);
        at += consumed;
        if (event.kind == PH_SMTP_STARTTLS)
            break;
        CHECK(event.kind != PH_SMTP_NEED_INPUT && event.kind != PH_SMTP_CLOSED);
    }
    drain_smtp(session, &talk, 1000);
    CHECK(ph_smtp_server_accept(session) == PH_E_STATE);
    CHECK(ph_smtp_server_tls_started(session, PH_OFFER_TLS, (const uint8_t *)injected + at, strlen(injected) - at) == PH_OK);
    CHECK(smtp(session, &talk, injected + at, 1000) == 1);
    CHECK(strstr(talk.story, "evil") == NULL);
    ph_smtp_server_free(session);
}

static const char *const maildrop[] = {"Subject: one\r\n\r\nfirst\r\n", "Subject: two\r\n\r\n.dot\r\n"};

static int pop3(ph_pop3_server *session, struct talk *talk, const char *input, size_t piece)
{
    size_t have = 0, used = 0, len = strlen(input), consumed = 0, more;
    ph_pop3_event event = PH_POP3_EVENT_INIT;
    ph_pop3_maildrop drop = PH_POP3_MAILDROP_INIT;
    ph_bytes pending, data;
    uint64_t octets[2];
    uint32_t uids[2];
    char number[16];
    for (;;) {
        CHECK(ph_pop3_server_step(session, 1, (const uint8_t *)input + used, have - used, &consumed, &event) == PH_OK);
        used += consumed;
        if (event.kind <= PH_POP3_CLOSED) {
            for (ph_pop3_server_output(session, &pending); pending.len > 0; ph_pop3_server_output(session, &pending)) {
                more = pending.len < piece ? pending.len : piece;
                append(talk->wire, &talk->wire_len, pending.data, more);
                ph_pop3_server_output_sent(session, more);
            }
        }
        switch (event.kind) {
        case PH_POP3_NEED_INPUT:
            if (have == len)
                return 0;
            have = have + piece < len ? have + piece : len;
            break;
        case PH_POP3_BLOCKED:
            break;
        case PH_POP3_CLOSED:
            return 1;
        case PH_POP3_CONNECT:
            CHECK(ph_pop3_server_step(session, 1, NULL, 0, &consumed, &event) == PH_E_STATE);
            CHECK(ph_pop3_server_updated(session, 1) == PH_E_STATE);
            CHECK(ph_pop3_server_accept(session) == PH_OK);
            break;
        case PH_POP3_AUTH:
            note(talk, "auth", event.login);
            octets[0] = strlen(maildrop[0]);
            octets[1] = strlen(maildrop[1]);
            uids[0] = 3;
            uids[1] = 9;
            drop.uid_validity = 5;
            drop.octets = octets;
            drop.uids = NULL;
            drop.count = 2;
            CHECK(ph_pop3_server_opened(session, &drop) == PH_E_NULL);
            drop.uids = uids;
            if (same(event.password, "secret")) {
                CHECK(ph_pop3_server_opened(session, &drop) == PH_OK);
            } else {
                CHECK(ph_pop3_server_denied(session, 0) == PH_E_INVALID_ARGUMENT);
                CHECK(ph_pop3_server_denied(session, PH_POP3_DENIED_CREDENTIALS) == PH_OK);
            }
            break;
        case PH_POP3_NEED_BODY:
            CHECK(event.index < 2 && event.max > 0);
            data = ph_bytes_of(maildrop[event.index]);
            if (event.offset == data.len) {
                CHECK(ph_pop3_server_body(session, ph_bytes_of("")) == PH_E_INVALID_ARGUMENT);
                CHECK(ph_pop3_server_body_end(session) == PH_OK);
                break;
            }
            data.data += event.offset;
            data.len -= (size_t)event.offset;
            if (data.len > piece)
                data.len = piece;
            if (data.len > event.max)
                data.len = (size_t)event.max;
            CHECK(ph_pop3_server_body(session, data) == PH_OK);
            CHECK(ph_pop3_server_body_end(session) == PH_E_STATE);
            break;
        case PH_POP3_UPDATE:
            CHECK(event.deleted_count == 1 && event.deleted[0] == 1);
            sprintf(number, "%u", (unsigned)event.deleted[0]);
            note(talk, "update", ph_bytes_of(number));
            CHECK(ph_pop3_server_updated(session, 2) == PH_E_INVALID_ARGUMENT);
            CHECK(ph_pop3_server_updated(session, 1) == PH_OK);
            break;
        default:
            CHECK(!"a known event");
        }
    }
}

static void pop3_conversations(void)
{
    static const char input[] = "USER tim\r\nPASS wrong\r\nUSER tim\r\nPASS secret\r\nSTAT\r\nUIDL 2\r\n"
                                "RETR 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n";
    static const size_t pieces[] = {1, 2, 5, sizeof input};
    static struct talk whole, cut;
    ph_pop3_server_options options = PH_POP3_SERVER_OPTIONS_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_pop3_server *session = NULL;
    size_t i;
    options.hostname = "mail.example.test";
    options.offer = PH_OFFER_AUTH;
    for (i = sizeof pieces / sizeof pieces[0]; i-- > 0;) {
        struct talk *talk = i + 1 == sizeof pieces / sizeof pieces[0] ? &whole : &cut;
        memset(talk, 0, sizeof *talk);
        OK(ph_pop3_server_new(&options, 0, &session, &err));
        CHECK(pop3(session, talk, input, pieces[i]) == 1);
        ph_pop3_server_free(session);
        if (talk == &cut) {
            CHECK(strcmp(cut.wire, whole.wire) == 0);
            CHECK(strcmp(cut.story, whole.story) == 0);
        }
    }
    CHECK(strcmp(whole.story, "auth(tim)auth(tim)update(1)") == 0);
    CHECK(strncmp(whole.wire, "+OK ", 4) == 0);
    CHECK(strstr(whole.wire, "-ERR [AUTH]") != NULL);
    CHECK(strstr(whole.wire, "\r\nSubject: one\r\n\r\nfirst\r\n.\r\n") != NULL);
    CHECK(strstr(whole.wire, "\r\nSubject: two\r\n\r\n..dot\r\n.\r\n") != NULL);

    /* The peer turned away, the peer gone, the body that cannot be read. */
    {
        ph_pop3_event event = PH_POP3_EVENT_INIT;
        size_t consumed = 0;
        OK(ph_pop3_server_new(NULL, 0, &session, &err));
        CHECK(ph_pop3_server_step(session, 1, NULL, 0, &consumed, &event) == PH_OK);
        CHECK(event.kind == PH_POP3_CONNECT);
        CHECK(ph_pop3_server_refuse(session, ph_bytes_of("come back later")) == PH_OK);
        memset(&cut, 0, sizeof cut);
        CHECK(pop3(session, &cut, "", 1) == 1);
        CHECK(strncmp(cut.wire, "-ERR", 4) == 0 && strstr(cut.wire, "come back later") != NULL);
        ph_pop3_server_free(session);
        OK(ph_pop3_server_new(NULL, 0, &session, &err));
        memset(&cut, 0, sizeof cut);
        CHECK(pop3(session, &cut, "CAPA\r\n", 1) == 0);
        CHECK(ph_pop3_server_deadline(session) != PH_NEVER);
        CHECK(ph_pop3_server_eof(session, 2) == PH_OK);
        CHECK(pop3(session, &cut, "", 1) == 1);
        ph_pop3_server_free(session);
        OK(ph_pop3_server_new(NULL, 0, &session, &err));
        CHECK(ph_pop3_server_shutdown(session) == PH_OK);
        ph_pop3_server_free(session);
    }
}

/* What a client session is told by its peer, in pieces, and what it sends. 1 when the session is over. */
static int client(ph_smtp_client *session, struct talk *talk, const char *input, size_t piece, const char *body)
{
    size_t have = 0, used = 0, given = 0, len = strlen(input), consumed = 0;
    ph_smtp_client_event event = PH_SMTP_CLIENT_EVENT_INIT;
    ph_smtp_transaction transaction = PH_SMTP_TRANSACTION_INIT;
    ph_smtp_recipient to[2];
    ph_bytes pending, data;
    memset(to, 0, sizeof to);
    to[0].address = ph_bytes_of("one@example.test");
    to[1].address = ph_bytes_of("two@example.test");
    to[1].parameters = ph_bytes_of("NOTIFY=NEVER");
    for (;;) {
        CHECK(ph_smtp_client_step(session, 1, (const uint8_t *)input + used, have - used, &consumed, &event) == PH_OK);
        CHECK(consumed <= have - used);
        used += consumed;
        for (;;) {
            ph_smtp_client_output(session, &pending);
            if (pending.len == 0)
                break;
            if (pending.len > piece)
                pending.len = piece;
            append(talk->wire, &talk->wire_len, pending.data, pending.len);
            ph_smtp_client_output_sent(session, pending.len);
        }
        switch (event.kind) {
        case PH_SMTP_CLIENT_NEED_INPUT:
            if (have == len)
                return 0;
            have = have + piece < len ? have + piece : len;
            break;
        case PH_SMTP_CLIENT_BLOCKED:
            break;
        case PH_SMTP_CLIENT_CLOSED:
            return 1;
        case PH_SMTP_CLIENT_STARTTLS:
            CHECK(ph_smtp_client_tls_started(session, NULL, NULL, 3, NULL, 0) == PH_E_NULL);
            CHECK(ph_smtp_client_tls_started(session, NULL, NULL, 0, NULL, 0) == PH_OK);
            note(talk, "tls", ph_bytes_of(""));
            break;
        case PH_SMTP_CLIENT_READY:
            CHECK(ph_smtp_client_body(session, ph_bytes_of("x")) == PH_E_STATE);
            CHECK(ph_smtp_client_body_end(session) == PH_E_STATE);
            CHECK(ph_smtp_client_body_failed(session, ph_bytes_of("x")) == PH_E_STATE);
            CHECK(ph_smtp_client_begin(session, &transaction) == PH_E_INVALID_ARGUMENT);
            transaction.recipients = to;
            transaction.recipient_count = 2;
            transaction.from = ph_bytes_of("a b");
            CHECK(ph_smtp_client_begin(session, &transaction) == PH_E_ADDRESS);
            transaction.from = ph_bytes_of("a@b.example");
            transaction.content = 3;
            CHECK(ph_smtp_client_begin(session, &transaction) == PH_E_INVALID_ARGUMENT);
            transaction.content = PH_CONTENT_8BIT;
            transaction.parameters = ph_bytes_of("XYZ=1");
            CHECK(ph_smtp_client_begin(session, &transaction) == PH_E_INVALID_ARGUMENT);
            transaction.parameters = ph_bytes_of("RET=HDRS");
            transaction.size = strlen(body);
            CHECK(ph_smtp_client_begin(session, &transaction) == PH_OK);
            CHECK(ph_smtp_client_begin(session, &transaction) == PH_E_STATE);
            break;
        case PH_SMTP_CLIENT_RECIPIENT: {
            char line[64];
            sprintf(line, "%u:%u:%u:%u:%u:%u.%u.%u:%u", (unsigned)event.index, (unsigned)event.verdict,
                    (unsigned)event.origin, (unsigned)event.phase, (unsigned)event.code, (unsigned)event.enhanced_class,
                    (unsigned)event.enhanced_subject, (unsigned)event.enhanced_detail, (unsigned)event.flags);
            note(talk, line, event.text);
            break;
        }
        case PH_SMTP_CLIENT_NEED_BODY:
            CHECK(event.size > 0);
            CHECK(ph_smtp_client_body(session, ph_bytes_of("")) == PH_E_INVALID_ARGUMENT);
            data = ph_bytes_of(body);
            data.data += given;
            data.len -= given;
            if (data.len > piece)
                data.len = piece;
            given += data.len;
            if (data.len > 0)
                CHECK(ph_smtp_client_body(session, data) == PH_OK);
            else
                CHECK(ph_smtp_client_body_end(session) == PH_OK);
            break;
        case PH_SMTP_CLIENT_DONE:
            CHECK(event.size == 1 && !(event.flags & PH_SMTP_CLIENT_FLAG_CLOSING));
            note(talk, "done", ph_bytes_of(""));
            CHECK(ph_smtp_client_quit(session) == PH_OK);
            break;
        case PH_SMTP_CLIENT_FAILED:
            note(talk, event.flags & PH_SMTP_CLIENT_FLAG_CLEAR_MAY_DO ? "failed, clear may do" : "failed", event.text);
            break;
        default:
            CHECK(!"a known event");
        }
    }
}

static void client_conversations(void)
{
    static const char input[] =
        "220 mx\r\n250-mx\r\n250-STARTTLS\r\n250 SIZE\r\n220 go\r\n"
        "250-mx\r\n250-PIPELINING\r\n250-DSN\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n235 2.7.0 welcome\r\n"
        "250 ok\r\n550-5.1.1 no\r\n550 5.1.1 body\r\n250 ok\r\n354 go\r\n250 2.0.0 kept\r\n221 bye\r\n";
    static const size_t pieces[] = {1, 2, 5, sizeof input};
    static struct talk whole, cut;
    ph_smtp_client_options options = PH_SMTP_CLIENT_OPTIONS_INIT;
    ph_smtp_client_event event = PH_SMTP_CLIENT_EVENT_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_smtp_client *session = NULL;
    ph_bytes pending;
    size_t i, consumed = 0;
    uint64_t deadline;
    options.hostname = "client.example";
    options.login = ph_bytes_of("tim");
    options.secret = ph_bytes_of("tanstaaf");
    options.flags = PH_SMTP_CLIENT_TLS_REQUIRED | PH_SMTP_CLIENT_NO_CHUNKING;
    for (i = sizeof pieces / sizeof pieces[0]; i-- > 0;) {
        struct talk *talk = i + 1 == sizeof pieces / sizeof pieces[0] ? &whole : &cut;
        memset(talk, 0, sizeof *talk);
        OK(ph_smtp_client_new(&options, 0, &session, &err));
        CHECK(client(session, talk, input, pieces[i], ".\nbare\rends") == 1);
        ph_smtp_client_free(session);
        if (talk == &cut) {
            CHECK(strcmp(cut.wire, whole.wire) == 0);
            CHECK(strcmp(cut.story, whole.story) == 0);
        }
    }
    CHECK(strcmp(whole.story, "tls()0:3:1:8:550:5.1.1:0(5.1.1 no\n5.1.1 body)1:1:1:11:250:2.0.0:2(2.0.0 kept)done()") == 0);
    CHECK(strcmp(whole.wire,
                 "EHLO client.example\r\nSTARTTLS\r\nEHLO client.example\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n"
                 "MAIL FROM:<a@b.example> BODY=8BITMIME RET=HDRS\r\nRCPT TO:<one@example.test>\r\n"
                 "RCPT TO:<two@example.test> NOTIFY=NEVER\r\nDATA\r\n..\r\nbare\r\nends\r\n.\r\nQUIT\r\n") == 0);

    /* What a session cannot be made with. */
    options.flags = PH_SMTP_CLIENT_TLS_REQUIRED | PH_SMTP_CLIENT_TLS_NEVER;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_client_new(&options, 0, &session, &err));
    CHECK(session == NULL);
    options.flags = 1024;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_client_new(&options, 0, &session, &err));
    options.flags = 0;
    options.mechanisms = "NONE SUCH";
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_client_new(&options, 0, &session, &err));
    options.mechanisms = NULL;
    options.hostname = "two words";
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_client_new(&options, 0, &session, &err));
    FAILS(PH_E_NULL, ph_smtp_client_new(NULL, 0, NULL, &err));

    /* Calls out of turn, and what NULL does. */
    OK(ph_smtp_client_new(NULL, 0, &session, &err));
    CHECK(ph_smtp_client_step(NULL, 0, NULL, 0, &consumed, &event) == PH_E_NULL);
    CHECK(ph_smtp_client_step(session, 0, NULL, 0, NULL, &event) == PH_E_NULL);
    CHECK(ph_smtp_client_step(session, 0, NULL, 0, &consumed, NULL) == PH_E_NULL);
    CHECK(ph_smtp_client_step(session, 0, NULL, 5, &consumed, &event) == PH_E_NULL);
    CHECK(ph_smtp_client_begin(session, NULL) == PH_E_NULL);
    CHECK(ph_smtp_client_deadline(NULL) == PH_NEVER);
    ph_smtp_client_output(NULL, &pending);
    CHECK(pending.len == 0);
    ph_smtp_client_output_sent(NULL, 5);
    ph_smtp_client_output_sent(session, 500);
    ph_smtp_client_free(NULL);
    deadline = ph_smtp_client_deadline(session);
    CHECK(deadline == 300000);
    CHECK(ph_smtp_client_step(session, deadline, NULL, 0, &consumed, &event) == PH_OK);
    CHECK(event.kind == PH_SMTP_CLIENT_FAILED && event.phase == PH_PHASE_GREETING && event.origin == PH_ORIGIN_CLIENT);
    CHECK(event.code == 421 && event.verdict == PH_VERDICT_TEMPORARY);
    CHECK(ph_smtp_client_step(session, deadline, NULL, 0, &consumed, &event) == PH_OK);
    CHECK(event.kind == PH_SMTP_CLIENT_CLOSED);
    ph_smtp_client_free(session);

    /* The handshake that fails, the peer that is gone, the octets in the clear. */
    OK(ph_smtp_client_new(NULL, 0, &session, &err));
    {
        static const char hello[] = "220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n";
        size_t used = 0;
        do {
            CHECK(ph_smtp_client_step(session, 1, (const uint8_t *)hello + used, sizeof hello - 1 - used, &consumed, &event) == PH_OK);
            used += consumed;
        } while (event.kind != PH_SMTP_CLIENT_STARTTLS);
        CHECK(ph_smtp_client_tls_failed(session, ph_bytes_of("\377")) == PH_E_UTF8);
        CHECK(ph_smtp_client_tls_failed(session, ph_bytes_of("bad certificate")) == PH_OK);
        memset(&cut, 0, sizeof cut);
        CHECK(client(session, &cut, "", 1, "") == 1);
        CHECK(strstr(cut.story, "failed, clear may do(4.7.5 TLS handshake failed: bad certificate)") != NULL);
        ph_smtp_client_free(session);
    }
    OK(ph_smtp_client_new(NULL, 0, &session, &err));
    CHECK(ph_smtp_client_eof(session, 2) == PH_OK);
    memset(&cut, 0, sizeof cut);
    CHECK(client(session, &cut, "", 1, "") == 1);
    CHECK(strncmp(cut.story, "failed(", 7) == 0);
    ph_smtp_client_free(session);
}

int main(void)
{
    smtp_conversations();
    client_conversations();
    smtp_edges();
    pop3_conversations();
    use_everything();
    puts("sessions: ok");
    return 0;
}
