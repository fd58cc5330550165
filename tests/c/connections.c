/*
 * Connections on the host's own sockets (here: none at all), policy questions answered at once, later, too late and never,
 * bearer tokens verified by the host.
 */
#define _POSIX_C_SOURCE 200112L
#include "test.h"

#ifdef _WIN32
#include <windows.h>
static void rest(unsigned ms) { Sleep(ms); }
#else
#include <time.h>
static void rest(unsigned ms)
{
    struct timespec pause;
    pause.tv_sec = 0;
    pause.tv_nsec = (long)ms * 1000000;
    nanosleep(&pause, NULL);
}
#endif

struct host {
    ph_engine *engine;
    volatile int ready;        /* calls of ready */
    volatile int asked[8];     /* by kind */
    ph_verdict *kept;          /* of the recipient later@ */
    int taken_twice;
    int dropped;
    char parameters[64];
};

static void on_ready(void *user_data)
{
    struct host *host = (struct host *)user_data;
    ph_error err = PH_ERROR_INIT;
    ph_stats stats = PH_STATS_INIT;
    FAILS(PH_E_REENTRANT, ph_engine_stats(host->engine, &stats, &err));
    host->ready++;
}

static void on_drop(void *user_data)
{
    ((struct host *)user_data)->dropped++;
}

static uint32_t on_policy(void *user_data, const ph_policy_question *question, ph_policy_answer *answer, ph_policy_later *later)
{
    struct host *host = (struct host *)user_data;
    ph_error err = PH_ERROR_INIT;
    ph_stats stats = PH_STATS_INIT;
    CHECK(question->struct_size >= sizeof *question && question->kind < 8);
    FAILS(PH_E_REENTRANT, ph_engine_stats(host->engine, &stats, &err));
    host->asked[question->kind]++;
    CHECK(same(question->service, "smtp") && same(question->peer, "192.0.2.7:4711") && question->session != 0);
    if (question->kind == PH_POLICY_MAIL && question->parameters.len < sizeof host->parameters)
        memcpy(host->parameters, question->parameters.data, question->parameters.len);
    if (question->kind == PH_POLICY_RCPT) {
        CHECK(same(question->hello, "client.example"));
        if (same(question->address, "later@example.test")) {
            host->kept = ph_policy_take(later);
            host->taken_twice += ph_policy_take(later) != NULL;
            return PH_POLICY_LATER;
        }
        if (same(question->address, "given-up@example.test")) {
            ph_verdict_free(ph_policy_take(later));
            return PH_POLICY_LATER;
        }
        if (same(question->address, "refused@example.test")) {
            answer->code = 550;
            answer->subject = 7;
            answer->detail = 26;
            answer->text = ph_bytes_of("Not\ntoday");
            return PH_POLICY_REFUSE;
        }
        if (same(question->address, "nonsense@example.test"))
            return answer->code = 250, PH_POLICY_REFUSE;
    }
    if (question->kind == PH_POLICY_END) {
        CHECK(question->message_id != 0 && question->size == 16);
        return PH_POLICY_ACCEPT;
    }
    return PH_POLICY_ACCEPT;
}

static int32_t on_token(void *user_data, const ph_token_request *request, char *name)
{
    (void)user_data;
    CHECK(same(request->mechanism, "XOAUTH2") && same(request->login, "user1@example.test"));
    if (same(request->token, "unknown"))
        return PH_TOKEN_UNAVAILABLE;
    if (!same(request->token, "good"))
        return PH_TOKEN_REFUSED;
    strcpy(name, "user1@example.test");
    return PH_TOKEN_VALID;
}

/* Feeds text, steps until the connection wants more, and answers what it says. */
static const char *say(struct host *host, ph_connection *connection, const char *text, uint32_t *state)
{
    static char output[8192];
    size_t len = strlen(text), used = 0, consumed, filled = 0;
    int rests = 0;
    ph_error err = PH_ERROR_INIT;
    (void)host;
    for (;;) {
        ph_bytes pending;
        OK(ph_connection_step(connection, (const uint8_t *)text + used, len - used, &consumed, state, &err));
        used += consumed;
        ph_connection_output(connection, &pending);
        CHECK(filled + pending.len < sizeof output);
        memcpy(output + filled, pending.data, pending.len);
        filled += pending.len;
        ph_connection_output_sent(connection, pending.len);
        output[filled] = '\0';
        if (*state == PH_CONNECTION_WAITING) {
            if (host->kept != NULL)
                return output;
            CHECK(rests++ < 4000);
            rest(5);
        } else if (*state != PH_CONNECTION_BLOCKED && used == len) {
            return output;
        } else if (*state == PH_CONNECTION_CLOSED || *state == PH_CONNECTION_STARTTLS) {
            return output;
        }
    }
}

static void starts(const char *text, const char *wanted)
{
    if (strncmp(text, wanted, strlen(wanted)) != 0) {
        fprintf(stderr, "%s\nis not\n%s\n", text, wanted);
        exit(1);
    }
}

static ph_connection *begin(struct host *host, const char *protocol, uint32_t tls)
{
    ph_connection_options options = PH_CONNECTION_OPTIONS_INIT;
    ph_connection *connection = NULL;
    ph_error err = PH_ERROR_INIT;
    options.protocol = protocol;
    options.tls = tls;
    options.peer = "192.0.2.7:4711";
    options.ready = on_ready;
    options.ready_user_data = host;
    options.ready_drop_user_data = on_drop;
    OK(ph_connection_new(host->engine, &options, &connection, &err));
    return connection;
}

static void wrong_options(struct host *host)
{
    ph_connection_options options = PH_CONNECTION_OPTIONS_INIT;
    ph_tls_facts facts = PH_TLS_FACTS_INIT;
    ph_connection *connection = NULL;
    ph_error err = PH_ERROR_INIT;
    int dropped = host->dropped;
    options.ready_user_data = host;
    options.ready_drop_user_data = on_drop;
    FAILS(PH_E_NULL, ph_connection_new(host->engine, &options, &connection, &err));
    options.ready = on_ready;
    FAILS(PH_E_NULL, ph_connection_new(host->engine, &options, &connection, &err));
    options.protocol = "gopher";
    options.peer = "192.0.2.7:4711";
    FAILS(PH_E_INVALID_ARGUMENT, ph_connection_new(host->engine, &options, &connection, &err));
    options.protocol = "smtps";
    FAILS(PH_E_INVALID_ARGUMENT, ph_connection_new(host->engine, &options, &connection, &err));
    options.tls = PH_CONNECTION_TLS_ENGINE;
    FAILS(PH_E_CERTIFICATE, ph_connection_new(host->engine, &options, &connection, &err));
    options.tls = PH_CONNECTION_TLS_HOST;
    FAILS(PH_E_INVALID_ARGUMENT, ph_connection_new(host->engine, &options, &connection, &err));
    options.facts = &facts;
    FAILS(PH_E_INVALID_ARGUMENT, ph_connection_new(host->engine, &options, &connection, &err));
    facts.version = 0x0304;
    facts.exporter = ph_bytes_of("short");
    FAILS(PH_E_INVALID_ARGUMENT, ph_connection_new(host->engine, &options, &connection, &err));
    facts.exporter.len = 0;
    options.peer = "somewhere";
    FAILS(PH_E_ADDRESS_INVALID, ph_connection_new(host->engine, &options, &connection, &err));
    options.peer = "192.0.2.7:4711";
    options.tls = 9;
    FAILS(PH_E_INVALID_ARGUMENT, ph_connection_new(host->engine, &options, &connection, &err));
    CHECK(connection == NULL && host->dropped == dropped + 10);
    options.tls = PH_CONNECTION_TLS_HOST;
    OK(ph_connection_new(host->engine, &options, &connection, &err));
    ph_connection_free(connection);
    CHECK(host->dropped == dropped + 11);
}

static void policy(struct host *host)
{
    ph_connection *c = begin(host, "smtp", PH_CONNECTION_TLS_NONE);
    ph_policy_answer answer = PH_POLICY_ANSWER_INIT;
    ph_error err = PH_ERROR_INIT;
    uint32_t state;
    int ready;
    starts(say(host, c, "", &state), "220 mail.example.test ");
    CHECK(state == PH_CONNECTION_NEED_INPUT && ph_connection_timeout(c) > 1000 && ph_connection_timeout(c) != PH_NEVER);
    starts(say(host, c, "EHLO client.example\r\n", &state), "250-mail.example.test");
    starts(say(host, c, "MAIL FROM:<a@sender.example> RET=HDRS ENVID=x\r\n", &state), "250 ");
    CHECK(strstr(host->parameters, "RET=HDRS") != NULL && strstr(host->parameters, "ENVID=x") != NULL);
    starts(say(host, c, "RCPT TO:<refused@example.test>\r\n", &state), "550-5.7.26 Not\r\n550 5.7.26 today\r\n");
    starts(say(host, c, "RCPT TO:<nonsense@example.test>\r\n", &state), "451 4.7.1 ");
    starts(say(host, c, "RCPT TO:<given-up@example.test>\r\n", &state), "451 4.7.1 ");
    /* Later, refused. */
    CHECK(*say(host, c, "RCPT TO:<later@example.test>\r\n", &state) == '\0' && state == PH_CONNECTION_WAITING);
    CHECK(host->taken_twice == 0 && ph_connection_timeout(c) == PH_NEVER);
    ready = host->ready;
    answer.code = 250;
    FAILS(PH_E_INVALID_ARGUMENT, ph_verdict_complete(host->kept, &answer, &err));
    answer.code = 450;
    answer.subject = 2;
    answer.detail = 1;
    OK(ph_verdict_complete(host->kept, &answer, &err));
    host->kept = NULL;
    starts(say(host, c, "", &state), "450 4.2.1 ");
    CHECK(host->ready == ready + 1);
    /* Later, accepted; then the message. */
    say(host, c, "RCPT TO:<later@example.test>\r\n", &state);
    CHECK(state == PH_CONNECTION_WAITING);
    OK(ph_verdict_complete(host->kept, NULL, &err));
    host->kept = NULL;
    starts(say(host, c, "", &state), "250 ");
    starts(say(host, c, "DATA\r\n", &state), "354 ");
    starts(say(host, c, "Subject: x\r\n\r\n\r\n.\r\n", &state), "250 2.0.0 ");
    CHECK(host->asked[PH_POLICY_CONNECT] == 1 && host->asked[PH_POLICY_HELLO] == 1 && host->asked[PH_POLICY_MAIL] == 1);
    CHECK(host->asked[PH_POLICY_RCPT] == 5 && host->asked[PH_POLICY_DATA] == 1 && host->asked[PH_POLICY_END] == 1);
    /* Too late: the engine waits for 300 ms. What is said afterwards has no effect. */
    starts(say(host, c, "MAIL FROM:<>\r\n", &state), "250 ");
    say(host, c, "RCPT TO:<later@example.test>\r\n", &state);
    CHECK(state == PH_CONNECTION_WAITING);
    {
        ph_verdict *late = host->kept;
        host->kept = NULL;
        starts(say(host, c, "", &state), "451 4.7.1 ");
        OK(ph_verdict_complete(late, NULL, &err));
    }
    /* A verdict may outlive the connection. */
    say(host, c, "RCPT TO:<later@example.test>\r\n", &state);
    CHECK(state == PH_CONNECTION_WAITING);
    ph_connection_free(c);
    OK(ph_verdict_complete(host->kept, NULL, &err));
    host->kept = NULL;
    CHECK(ph_policy_take(NULL) == NULL);
    ph_verdict_free(NULL);
    FAILS(PH_E_NULL, ph_verdict_complete(NULL, NULL, &err));
}

static void tokens(struct host *host)
{
    ph_connection_options options = PH_CONNECTION_OPTIONS_INIT;
    ph_tls_facts facts = PH_TLS_FACTS_INIT;
    ph_connection *c = NULL;
    ph_error err = PH_ERROR_INIT;
    uint32_t state;
    facts.version = 0x0304;
    facts.cipher = 0x1301;
    facts.server_name = ph_bytes_of("mail.example.test");
    options.protocol = "smtps";
    options.tls = PH_CONNECTION_TLS_HOST;
    options.facts = &facts;
    options.peer = "192.0.2.7:4711";
    options.ready = on_ready;
    options.ready_user_data = host;
    OK(ph_connection_new(host->engine, &options, &c, &err));
    starts(say(host, c, "", &state), "220 ");
    CHECK(strstr(say(host, c, "EHLO client.example\r\n", &state), "XOAUTH2") != NULL);
    /* user=user1@example.test ^A auth=Bearer TOKEN ^A ^A */
    starts(say(host, c, "AUTH XOAUTH2 dXNlcj11c2VyMUBleGFtcGxlLnRlc3QBYXV0aD1CZWFyZXIgdW5rbm93bgEB\r\n", &state), "454 4.7.0 ");
    starts(say(host, c, "AUTH XOAUTH2 dXNlcj11c2VyMUBleGFtcGxlLnRlc3QBYXV0aD1CZWFyZXIgYmFkAQE=\r\n", &state), "334 ");
    starts(say(host, c, "\r\n", &state), "535 5.7.8 ");
    starts(say(host, c, "AUTH XOAUTH2 dXNlcj11c2VyMUBleGFtcGxlLnRlc3QBYXV0aD1CZWFyZXIgZ29vZAEB\r\n", &state), "235 2.7.0 ");
    CHECK(host->asked[PH_POLICY_AUTH] == 1);
    starts(say(host, c, "QUIT\r\n", &state), "221 ");
    CHECK(state == PH_CONNECTION_CLOSED);
    ph_connection_free(c);
}

static void starttls_by_the_host(struct host *host)
{
    ph_connection *c = begin(host, "smtp", PH_CONNECTION_TLS_HOST);
    ph_tls_facts facts = PH_TLS_FACTS_INIT;
    ph_error err = PH_ERROR_INIT;
    size_t consumed;
    uint32_t state;
    facts.version = 0x0303;
    FAILS(PH_E_STATE, ph_connection_tls_started(c, &facts, NULL, 0, &err));
    say(host, c, "", &state);
    CHECK(strstr(say(host, c, "EHLO client.example\r\n", &state), "STARTTLS") != NULL);
    starts(say(host, c, "STARTTLS\r\n", &state), "220 ");
    CHECK(state == PH_CONNECTION_STARTTLS);
    FAILS(PH_E_STATE, ph_connection_step(c, NULL, 0, &consumed, &state, &err));
    OK(ph_connection_tls_started(c, &facts, NULL, 0, &err));
    starts(say(host, c, "MAIL FROM:<>\r\n", &state), "503 ");
    CHECK(strstr(say(host, c, "EHLO client.example\r\n", &state), "STARTTLS") == NULL);
    ph_connection_shutdown(c);
    starts(say(host, c, "", &state), "421 ");
    CHECK(state == PH_CONNECTION_CLOSED);
    ph_connection_free(c);
    /* Injected plaintext ends it. */
    c = begin(host, "smtp", PH_CONNECTION_TLS_HOST);
    say(host, c, "", &state);
    say(host, c, "EHLO client.example\r\n", &state);
    say(host, c, "STARTTLS\r\n", &state);
    OK(ph_connection_tls_started(c, &facts, (const uint8_t *)"NOOP\r\n", 6, &err));
    CHECK(*say(host, c, "", &state) == '\0' && state == PH_CONNECTION_CLOSED);
    ph_connection_free(c);
}

/* Guesses lock the host out; whoever runs the engine sees that, and ends it. */
static void lockouts(struct host *host)
{
    ph_connection *c = begin(host, "smtp", PH_CONNECTION_TLS_HOST);
    ph_lockout_cursor *cursor = NULL;
    ph_lockout_row row = PH_LOCKOUT_ROW_INIT;
    ph_tls_facts facts = PH_TLS_FACTS_INIT;
    ph_error err = PH_ERROR_INIT;
    uint32_t state;
    facts.version = 0x0303;
    say(host, c, "", &state);
    say(host, c, "EHLO client.example\r\n", &state);
    say(host, c, "STARTTLS\r\n", &state);
    OK(ph_connection_tls_started(c, &facts, NULL, 0, &err));
    say(host, c, "EHLO client.example\r\n", &state);
    OK(ph_lockout_list(host->engine, &cursor, &err));
    CHECK(ph_lockout_next(cursor, &row, &err) == PH_END);
    ph_lockout_free(cursor);
    FAILS(PH_E_NOT_FOUND, ph_unlock(host->engine, ph_bytes_of("192.0.2.9"), &err));
    /* NUL x NUL a, then b: with the bad token above that is three guesses, the limit here. */
    starts(say(host, c, "AUTH PLAIN AHgAYQ==\r\n", &state), "535 ");
    starts(say(host, c, "AUTH PLAIN AHgAYg==\r\n", &state), "535 ");
    OK(ph_lockout_list(host->engine, &cursor, &err));
    OK(ph_lockout_next(cursor, &row, &err));
    CHECK(row.what == PH_LOCKOUT_HOST && same(row.whom, "192.0.2.7") && row.left_ms > 0 && row.left_ms <= 60000);
    CHECK(ph_lockout_next(cursor, &row, &err) == PH_END);
    ph_lockout_free(cursor);
    OK(ph_unlock(host->engine, ph_bytes_of("192.0.2.7"), &err));
    FAILS(PH_E_NOT_FOUND, ph_unlock(host->engine, ph_bytes_of("192.0.2.7"), &err));
    OK(ph_lockout_list(host->engine, &cursor, &err));
    CHECK(ph_lockout_next(cursor, &row, &err) == PH_END);
    ph_lockout_free(cursor);
    FAILS(PH_E_NULL, ph_lockout_list(host->engine, NULL, &err));
    ph_lockout_free(NULL);
    ph_connection_free(c);
}

int main(int argc, char **argv)
{
    struct host host;
    ph_engine_options options = PH_ENGINE_OPTIONS_INIT;
    ph_account_options account = PH_ACCOUNT_OPTIONS_INIT;
    ph_bytes addresses[5];
    ph_connection *left;
    ph_error err = PH_ERROR_INIT;
    size_t consumed;
    uint32_t state;
    const char *path = in(argc > 1 ? argv[1] : ".", "instance");

    memset(&host, 0, sizeof host);
    OK(make(path, NULL, 0, &err));
    OK(ph_instance_set(path, "auth.mechanisms", "[\"PLAIN\", \"XOAUTH2\"]", &err));
    OK(ph_instance_set(path, "policy.lockout_failures", "3", &err));
    OK(ph_instance_set(path, "policy.lockout_seconds", "60", &err));
    OK(ph_instance_set(path, "smtp.extensions", "[\"8BITMIME\", \"DSN\"]", &err));
    options.policy = on_policy;
    options.policy_user_data = &host;
    options.policy_drop_user_data = on_drop;
    options.policy_timeout_ms = 300;
    options.token = on_token;
    options.token_user_data = &host;
    options.token_drop_user_data = on_drop;
    OK(ph_engine_open(path, &options, &host.engine, &err));
    addresses[0] = ph_bytes_of("user1@example.test");
    addresses[1] = ph_bytes_of("later@example.test");
    addresses[2] = ph_bytes_of("given-up@example.test");
    addresses[3] = ph_bytes_of("refused@example.test");
    addresses[4] = ph_bytes_of("nonsense@example.test");
    account.addresses = addresses;
    account.address_count = 5;
    account.password = ph_bytes_of("correct horse battery");
    OK(ph_account_add(host.engine, &account, &err));
    wrong_options(&host);
    policy(&host);
    tokens(&host);
    starttls_by_the_host(&host);
    lockouts(&host);
    /* An open connection, and one that waits, when the engine is closed. */
    left = begin(&host, "pop3", PH_CONNECTION_TLS_NONE);
    starts(say(&host, left, "", &state), "+OK ");
    host.dropped = 0;
    OK(ph_engine_close(host.engine, &err));
    CHECK(host.dropped == 2);
    FAILS(PH_E_STOPPED, ph_connection_step(left, NULL, 0, &consumed, &state, &err));
    ph_connection_free(left);
    CHECK(host.dropped == 3);
    use_everything();
    ph_connection_free(NULL);
    CHECK(ph_connection_timeout(NULL) == PH_NEVER);
    puts("connections: ok");
    return 0;
}
