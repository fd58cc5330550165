/*
 * Bare sessions, driven in memory: whole, octet by octet, and with calls out of turn. No sockets, no files.
 */
#include "test.h"

/* For SCRAM: what is random elsewhere. The messages below are those of a client that knows the password. */
#define NONCE "\5\5\5\5\5\5\5\5\5\5\5\5\5\5\5\5\5\5"
#define SALT "\6\6\6\6\6\6\6\6\6\6\6\6\6\6\6\6"
static const char scram_first[] = "biwsbj11c2VyLHI9Y2wxZW50bjBuY2U=";
static const char scram_last[] =
    "Yz1iaXdzLHI9Y2wxZW50bjBuY2VCUVVGQlFVRkJRVUZCUVVGQlFVRkJRVUYscD1lSlNLa2kzaHNKY1VD"
    "UzNnY2g1UTlGLzRHSjY2QjZtQXI1OUh3SFlMNTBFPQ==";
static const char scram_signature[] = "dj1NM3pLNXgycHo2VllMZE1OQ3ZUSEw4cmdBQXlrSTZIRzY4R2JnUDQvNThZPQ==";
static const char cram_md5[] = "dXNlciA2NWUxY2ViYzRkMzc4NmViZTQzYjEyYzk5MWYxNGMwMg==";
static const char xoauth2[] = "dXNlcj11c2VyAWF1dGg9QmVhcmVyIHRvLWtlbgEB";

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
    ph_bytes none = ph_bytes_of(""), nonce = ph_bytes_of(NONCE);
    ph_scram_keys keys = PH_SCRAM_KEYS_INIT;
    uint32_t right = 7;
    CHECK(ph_scram_derive(ph_bytes_of("secret"), ph_bytes_of(SALT), 4096, &keys) == PH_OK);
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
        case PH_SMTP_AUTH_NONCE:
            CHECK(ph_smtp_server_auth_nonce(session, ph_bytes_of("short")) == PH_E_INVALID_ARGUMENT);
            CHECK(ph_smtp_server_auth_scram(session, &keys, nonce) == PH_E_STATE);
            CHECK(ph_smtp_server_auth_nonce(session, nonce) == PH_OK);
            break;
        case PH_SMTP_AUTH_SCRAM:
            note(talk, "keys", event.login);
            CHECK(ph_smtp_server_auth(session, PH_AUTH_ACCEPT) == PH_E_STATE);
            CHECK(ph_smtp_server_auth_nonce(session, nonce) == PH_E_STATE);
            CHECK(ph_smtp_server_auth_scram(session, NULL, nonce) == PH_E_NULL);
            keys.salt_len = 65;
            CHECK(ph_smtp_server_auth_scram(session, &keys, nonce) == PH_E_INVALID_ARGUMENT);
            keys.salt_len = 16;
            CHECK(ph_smtp_server_auth_scram(session, &keys, nonce) == PH_OK);
            break;
        case PH_SMTP_AUTH_CRAM_MD5:
            note(talk, "digest", event.login);
            CHECK(ph_cram_md5_verify(ph_bytes_of("secret"), event.data, event.password, &right) == PH_OK);
            CHECK(right == 1);
            CHECK(ph_cram_md5_verify(ph_bytes_of("other"), event.data, event.password, &right) == PH_OK);
            CHECK(right == 0);
            CHECK(ph_smtp_server_auth(session, PH_AUTH_ACCEPT) == PH_OK);
            break;
        case PH_SMTP_AUTH_TOKEN:
            note(talk, "token", event.password);
            CHECK(ph_smtp_server_auth(session, PH_AUTH_REFUSE) == PH_OK);
            break;
        case PH_SMTP_AUTH_OUTCOME:
            note(talk, event.flags & PH_SMTP_FLAG_PROVED ? "proved" : "failed", event.login);
            CHECK(ph_smtp_server_auth(session, PH_AUTH_ACCEPT) == PH_OK);
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

/* LMTP and the extensions: one reply for each recipient, parameters as the next hop must hear of them. */
static void smtp_extensions(void)
{
    static const char input[] =
        "LHLO proxy.example\r\nXCLIENT ADDR=192.0.2.1 LOGIN=bob\r\nLHLO client.example\r\nVRFY someone\r\nETRN #queue\r\n"
        "MAIL FROM:<a@example.test> RET=hdrs BODY=BINARYMIME MT-PRIORITY=-3\r\n"
        "RCPT TO:<one@example.test> NOTIFY=never\r\nRCPT TO:<two@example.test>\r\nRCPT TO:<three@example.test>\r\n"
        "BDAT 1 LAST\r\nxQUIT\r\n";
    static struct talk talk;
    ph_smtp_server_options options = PH_SMTP_SERVER_OPTIONS_INIT;
    ph_smtp_event event = PH_SMTP_EVENT_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_smtp_server *session = NULL;
    ph_bytes none = ph_bytes_of("");
    size_t used = 0, consumed = 0;

    options.dialect = PH_SMTP_DIALECT_LMTP;
    options.extensions = PH_SMTP_EXTENSION_DSN | PH_SMTP_EXTENSION_BINARYMIME | PH_SMTP_EXTENSION_ETRN |
                         PH_SMTP_EXTENSION_XCLIENT | PH_SMTP_EXTENSION_MT_PRIORITY;
    options.vrfy = 9;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    options.vrfy = PH_SMTP_LOOKUP_ASKED;
    options.hold_seconds = 5;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    options.hold_seconds = 0;
    options.deliver_by_least = 5;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    options.deliver_by_least = 0;
    options.extensions |= 1u << 31;
    FAILS(PH_E_INVALID_ARGUMENT, ph_smtp_server_new(&options, 0, &session, &err));
    options.extensions &= ~(1u << 31);
    OK(ph_smtp_server_new(&options, 0, &session, &err));
    do {
        CHECK(ph_smtp_server_step(session, 1, (const uint8_t *)input + used, sizeof input - 1 - used, &consumed, &event) == PH_OK);
        used += consumed;
        CHECK(event.recipients == (event.kind == PH_SMTP_DATA_END ? 3u : 0u));
        if (event.kind == PH_SMTP_FORWARDED) {
            CHECK(same(event.parameters, "ADDR=192.0.2.1 LOGIN=bob"));
            CHECK(same(event.address, "192.0.2.1") && same(event.login, "bob"));
        } else if (event.kind == PH_SMTP_VERIFY) {
            CHECK(same(event.data, "someone"));
        } else if (event.kind == PH_SMTP_ETRN) {
            CHECK(same(event.data, "#queue"));
        } else if (event.kind == PH_SMTP_MAIL) {
            CHECK(same(event.parameters, "RET=HDRS MT-PRIORITY=-3"));
            CHECK(event.flags == (PH_SMTP_FLAG_PAUSED | PH_SMTP_FLAG_BINARY));
        } else if (event.kind == PH_SMTP_RCPT) {
            CHECK(same(event.parameters, same(event.address, "one@example.test") ? "NOTIFY=NEVER" : ""));
        } else if (event.kind == PH_SMTP_DATA_END) {
            CHECK(ph_smtp_server_reply_recipient(session, 99, none, none) == PH_E_INVALID_ARGUMENT);
            CHECK(ph_smtp_server_reply_recipient(session, 250, ph_bytes_of("2.1.5"), ph_bytes_of("First")) == PH_OK);
            CHECK(ph_smtp_server_step(session, 1, NULL, 0, &consumed, &event) == PH_E_STATE);
            CHECK(ph_smtp_server_reply_recipient(session, 452, ph_bytes_of("4.2.2"), ph_bytes_of("Second")) == PH_OK);
            CHECK(ph_smtp_server_reply(session, 550, ph_bytes_of("5.2.1"), ph_bytes_of("Rest")) == PH_OK);
            CHECK(ph_smtp_server_reply_recipient(session, 250, none, none) == PH_E_STATE);
            event.flags = 0;
        }
        if (event.flags & PH_SMTP_FLAG_PAUSED)
            CHECK(ph_smtp_server_accept(session) == PH_OK);
        drain_smtp(session, &talk, 1000);
    } while (event.kind != PH_SMTP_CLOSED);
    CHECK(strstr(talk.wire, "\r\n250 2.1.5 First\r\n452 4.2.2 Second\r\n550 5.2.1 Rest\r\n221 ") != NULL);
    ph_smtp_server_free(session);
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
    ph_pop3_maildrop empty = PH_POP3_MAILDROP_INIT;
    ph_bytes pending, data, nonce = ph_bytes_of(NONCE);
    ph_scram_keys keys = PH_SCRAM_KEYS_INIT;
    uint32_t right = 7;
    uint64_t octets[2];
    uint32_t uids[2];
    char number[16];
    CHECK(ph_scram_derive(ph_bytes_of("secret"), ph_bytes_of(SALT), 4096, &keys) == PH_OK);
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
        case PH_POP3_AUTH_NONCE:
            CHECK(ph_pop3_server_auth_nonce(session, ph_bytes_of("short")) == PH_E_INVALID_ARGUMENT);
            CHECK(ph_pop3_server_auth_scram(session, &keys, nonce) == PH_E_STATE);
            CHECK(ph_pop3_server_auth_nonce(session, nonce) == PH_OK);
            break;
        case PH_POP3_AUTH_SCRAM:
            note(talk, "keys", event.login);
            CHECK(ph_pop3_server_opened(session, &empty) == PH_E_STATE);
            CHECK(ph_pop3_server_auth_nonce(session, nonce) == PH_E_STATE);
            CHECK(ph_pop3_server_auth_scram(session, NULL, nonce) == PH_E_NULL);
            keys.salt_len = 65;
            CHECK(ph_pop3_server_auth_scram(session, &keys, nonce) == PH_E_INVALID_ARGUMENT);
            keys.salt_len = 16;
            CHECK(ph_pop3_server_auth_scram(session, &keys, nonce) == PH_OK);
            break;
        case PH_POP3_AUTH_CRAM_MD5:
            note(talk, "digest", event.login);
            CHECK(ph_cram_md5_verify(ph_bytes_of("secret"), event.challenge, event.password, &right) == PH_OK);
            CHECK(right == 1);
            CHECK(ph_cram_md5_verify(ph_bytes_of("other"), event.challenge, event.password, &right) == PH_OK);
            CHECK(right == 0);
            CHECK(ph_pop3_server_opened(session, &empty) == PH_OK);
            break;
        case PH_POP3_AUTH_TOKEN:
            note(talk, "token", event.password);
            CHECK(ph_pop3_server_denied(session, PH_POP3_DENIED_CREDENTIALS) == PH_OK);
            break;
        case PH_POP3_AUTH_OUTCOME:
            note(talk, event.flags & PH_POP3_FLAG_PROVED ? "proved" : "failed", event.login);
            CHECK(ph_pop3_server_opened(session, &empty) == PH_OK);
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

#define EVERY_MECHANISM                                                                                                \
    (PH_MECHANISM_PLAIN | PH_MECHANISM_LOGIN | PH_MECHANISM_CRAM_MD5 | PH_MECHANISM_SCRAM_SHA_256 |                      \
     PH_MECHANISM_SCRAM_SHA_256_PLUS | PH_MECHANISM_OAUTHBEARER | PH_MECHANISM_XOAUTH2)

static void mechanisms(void)
{
    static struct talk talk;
    static char input[2048];
    ph_smtp_server_options options = PH_SMTP_SERVER_OPTIONS_INIT;
    ph_pop3_server_options pop3_options = PH_POP3_SERVER_OPTIONS_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_smtp_server *session = NULL;
    ph_pop3_server *pop3_session = NULL;
    ph_bytes none = ph_bytes_of(""), exporter = ph_bytes_of("01234567890123456789012345678901");
    size_t piece;
    options.offer = pop3_options.offer = PH_OFFER_AUTH;
    for (piece = 1; piece < 3000; piece += 999) {
        memset(&talk, 0, sizeof talk);
        sprintf(input, "EHLO a\r\nAUTH XOAUTH2 %s\r\n\r\nAUTH SCRAM-SHA-256 %s\r\n%s\r\n\r\nQUIT\r\n", xoauth2, scram_first,
                scram_last);
        OK(ph_smtp_server_new(&options, 0, &session, &err));
        CHECK(ph_smtp_server_set_mechanisms(session, 128, none, none) == PH_E_INVALID_ARGUMENT);
        CHECK(ph_smtp_server_set_mechanisms(session, EVERY_MECHANISM, exporter, none) == PH_OK);
        CHECK(smtp(session, &talk, input, piece) == 1);
        CHECK(strstr(talk.wire, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5 OAUTHBEARER XOAUTH2\r\n") != NULL);
        CHECK(strstr(talk.wire, "\r\n535 ") != NULL && strstr(talk.wire, "\r\n235 ") != NULL);
        CHECK(strstr(talk.wire, scram_signature) != NULL);
        CHECK(strcmp(talk.story, "ehlo(a)token(to-ken)keys(user)proved(user)quit()") == 0);
        ph_smtp_server_free(session);

        /* Without what binds the channel PLUS is not offered; a proof that is wrong is told, and let in by nobody. */
        memset(&talk, 0, sizeof talk);
        sprintf(input, "EHLO a\r\nAUTH CRAM-MD5\r\n%s\r\nQUIT\r\n", cram_md5);
        OK(ph_smtp_server_new(&options, 0, &session, &err));
        CHECK(ph_smtp_server_set_mechanisms(session, EVERY_MECHANISM, none, none) == PH_OK);
        CHECK(smtp(session, &talk, input, piece) == 1);
        CHECK(strstr(talk.wire, "-PLUS") == NULL && strstr(talk.wire, "\r\n235 ") != NULL);
        CHECK(strcmp(talk.story, "ehlo(a)digest(user)quit()") == 0);
        ph_smtp_server_free(session);
        memset(&talk, 0, sizeof talk);
        sprintf(input, "EHLO a\r\nAUTH SCRAM-SHA-256 biwsbj11c2VyLHI9eA==\r\n%s\r\nQUIT\r\n", scram_last);
        OK(ph_smtp_server_new(&options, 0, &session, &err));
        CHECK(ph_smtp_server_set_mechanisms(session, EVERY_MECHANISM, none, none) == PH_OK);
        CHECK(smtp(session, &talk, input, piece) == 1);
        CHECK(strstr(talk.wire, "\r\n535 ") != NULL && strstr(talk.wire, "\r\n235 ") == NULL);
        CHECK(strcmp(talk.story, "ehlo(a)keys(user)failed(user)quit()") == 0);
        ph_smtp_server_free(session);

        memset(&talk, 0, sizeof talk);
        sprintf(input, "CAPA\r\nAUTH XOAUTH2 %s\r\n\r\nAUTH SCRAM-SHA-256 %s\r\n%s\r\n\r\nNOOP\r\n", xoauth2, scram_first,
                scram_last);
        OK(ph_pop3_server_new(&pop3_options, 0, &pop3_session, &err));
        CHECK(ph_pop3_server_set_mechanisms(pop3_session, 128, none, none) == PH_E_INVALID_ARGUMENT);
        CHECK(ph_pop3_server_set_mechanisms(pop3_session, EVERY_MECHANISM, none, exporter) == PH_OK);
        CHECK(pop3(pop3_session, &talk, input, piece) == 0);
        CHECK(strstr(talk.wire, "SASL SCRAM-SHA-256-PLUS ") != NULL && strstr(talk.wire, scram_signature) != NULL);
        CHECK(strstr(talk.wire, "-ERR [AUTH]") != NULL && strstr(talk.wire, "+OK 0 messages") != NULL);
        CHECK(strcmp(talk.story, "token(to-ken)keys(user)proved(user)") == 0);
        ph_pop3_server_free(pop3_session);
        memset(&talk, 0, sizeof talk);
        sprintf(input, "AUTH CRAM-MD5\r\n%s\r\nNOOP\r\n", cram_md5);
        OK(ph_pop3_server_new(&pop3_options, 0, &pop3_session, &err));
        CHECK(ph_pop3_server_set_mechanisms(pop3_session, EVERY_MECHANISM, none, none) == PH_OK);
        CHECK(pop3(pop3_session, &talk, input, piece) == 0);
        CHECK(strstr(talk.wire, "+OK 0 messages") != NULL && strcmp(talk.story, "digest(user)") == 0);
        ph_pop3_server_free(pop3_session);
    }
}

static void keys(void)
{
    ph_scram_keys one = PH_SCRAM_KEYS_INIT, two = PH_SCRAM_KEYS_INIT;
    ph_bytes secret = ph_bytes_of("01234567890123456789012345678901"), salt = ph_bytes_of(SALT), none = ph_bytes_of("");
    uint32_t right = 0;
    CHECK(ph_scram_derive(ph_bytes_of("secret"), none, 1, &one) == PH_E_INVALID_ARGUMENT);
    CHECK(ph_scram_derive(ph_bytes_of("secret"), salt, 1, NULL) == PH_E_NULL);
    CHECK(ph_scram_derive(ph_bytes_of("\377"), salt, 1, &one) == PH_E_UTF8);
    CHECK(ph_scram_derive(ph_bytes_of("secret"), salt, 0, &one) == PH_OK);
    CHECK(one.iterations == 65536 && one.salt_len == 16 && one.salt[15] == 6 && one.salt[16] == 0);
    CHECK(ph_scram_decoy(salt, none, 1, &one) == PH_E_INVALID_ARGUMENT);
    CHECK(ph_scram_decoy(secret, ph_bytes_of("nobody"), 0, &one) == PH_OK);
    CHECK(ph_scram_decoy(secret, ph_bytes_of("nobody"), 0, &two) == PH_OK);
    CHECK(one.iterations == 65536 && memcmp(&one, &two, sizeof one) == 0);
    CHECK(ph_scram_decoy(secret, ph_bytes_of("somebody"), 0, &two) == PH_OK);
    CHECK(memcmp(one.salt, two.salt, 16) != 0);
    CHECK(ph_cram_md5_verify(none, none, none, NULL) == PH_E_NULL);
    CHECK(ph_cram_md5_verify(none, none, none, &right) == PH_OK && right == 0);
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

    /* The channel of a session under TLS from its beginning, with the nonce of the options; out of turn it is not taken. */
    options.flags = PH_SMTP_CLIENT_UNDER_TLS;
    options.nonce = (const uint8_t *)NONCE;
    for (i = 0; i < 2; i++) {
        static const char hello[] = "220 mx\r\n250-mx\r\n250 AUTH PLAIN SCRAM-SHA-256-PLUS\r\n";
        OK(ph_smtp_client_new(&options, 0, &session, &err));
        memset(&cut, 0, sizeof cut);
        if (i == 0)
            CHECK(ph_smtp_client_tls_started(session, NULL, (const uint8_t *)NONCE, 18, NULL, 0) == PH_OK);
        CHECK(client(session, &cut, "220 mx\r\n", 8, "") == 0);
        if (i == 1)
            CHECK(ph_smtp_client_tls_started(session, (const uint8_t *)NONCE, (const uint8_t *)NONCE, 18, NULL, 0) == PH_OK);
        CHECK(client(session, &cut, hello + 8, 8, "") == 0);
        CHECK(strstr(cut.wire, i == 0 ? "\r\nAUTH SCRAM-SHA-256-PLUS " : "\r\nAUTH PLAIN ") != NULL);
        ph_smtp_client_free(session);
    }
    options.nonce = NULL;

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
    mechanisms();
    keys();
    smtp_extensions();
    client_conversations();
    smtp_edges();
    pop3_conversations();
    use_everything();
    puts("sessions: ok");
    return 0;
}
