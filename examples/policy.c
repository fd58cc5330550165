/*
 * A mail server with rules of its own: policy DIRECTORY
 *
 * The engine asks before it goes on (ph_policy_fn), and the host refuses: a peer at connect (127.0.0.2), a sender at MAIL
 * (spam.example), a message that is too large at the end of its data. At RCPT it cannot know at once: a thread of its own looks the
 * recipient up and answers the question when it is done, while the engine serves others. A client that logs in with OAUTHBEARER or XOAUTH2
 * brings a token, which the host verifies (ph_token_fn). Makes an instance in the directory (or opens the one that is there) with
 * the account user1@example.test, serves SMTP and submission on 127.0.0.1, prints "ready smtp=... submission=...", then a line for each
 * answer that came later, and runs until its standard input ends.
 *
 *     cc policy.c -o policy -lposthouse -lpthread
 */
#define _POSIX_C_SOURCE 200112L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "posthouse.h"

enum { LARGEST = 65536 };

/* A question that was taken along. What it points to is gone when the call returns, so that the answer's thread has copies. */
struct lookup {
    struct lookup *next;
    ph_verdict *verdict;
    char address[512];
};

struct host {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct lookup *first, **last;
    int over;
};

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* Whether text ends so; letters compare without case, as those of domains do. */
static int ends(ph_bytes text, const char *end)
{
    size_t i, len = strlen(end);
    for (i = 0; i < len && len <= text.len; i++)
        if (lower(text.data[text.len - len + i]) != lower((unsigned char)end[i]))
            return 0;
    return len <= text.len;
}

static int begins(ph_bytes text, const char *start)
{
    size_t len = strlen(start);
    return len <= text.len && memcmp(text.data, start, len) == 0;
}

static uint32_t refuse(ph_policy_answer *answer, uint32_t code, uint32_t subject, uint32_t detail, const char *text)
{
    answer->code = code, answer->subject = subject, answer->detail = detail;
    answer->text = ph_bytes_of(text);
    return PH_POLICY_REFUSE;
}

/* Gives a question to the host's thread. Must not wait: this thread serves other connections. */
static uint32_t look_up(struct host *host, ph_bytes address, ph_policy_later *later)
{
    struct lookup *lookup = address.len < sizeof lookup->address ? calloc(1, sizeof *lookup) : NULL;
    if (lookup == NULL)
        return PH_POLICY_REFUSE; /* 451: come again */
    memcpy(lookup->address, address.data, address.len);
    lookup->verdict = ph_policy_take(later);
    pthread_mutex_lock(&host->lock);
    *host->last = lookup;
    host->last = &lookup->next;
    pthread_cond_signal(&host->more);
    pthread_mutex_unlock(&host->lock);
    return PH_POLICY_LATER;
}

/* On any thread of the engine, several at once. */
static uint32_t on_policy(void *user_data, const ph_policy_question *question, ph_policy_answer *answer, ph_policy_later *later)
{
    switch (question->kind) {
    case PH_POLICY_CONNECT:
        if (begins(question->peer, "127.0.0.2:"))
            return refuse(answer, 554, 7, 1, "We do not speak with this address");
        return PH_POLICY_ACCEPT;
    case PH_POLICY_MAIL:
        if (ends(question->address, "@spam.example"))
            return refuse(answer, 550, 7, 1, "We take nothing from this domain");
        return PH_POLICY_ACCEPT;
    case PH_POLICY_RCPT:
        return look_up(user_data, question->address, later);
    case PH_POLICY_END:
        if (question->size > LARGEST)
            return refuse(answer, 552, 3, 4, "Larger than 65536 octets");
        return PH_POLICY_ACCEPT;
    default:
        return PH_POLICY_ACCEPT;
    }
}

/* The host's thread: a database, a quota, another server. Here, whether the name begins with "full". */
static void *answers(void *user_data)
{
    struct host *host = user_data;
    pthread_mutex_lock(&host->lock);
    for (;;) {
        struct lookup *lookup = host->first;
        ph_policy_answer answer = PH_POLICY_ANSWER_INIT;
        ph_error err = PH_ERROR_INIT;
        int full;
        if (lookup == NULL && host->over)
            break;
        if (lookup == NULL) {
            pthread_cond_wait(&host->more, &host->lock);
            continue;
        }
        host->first = lookup->next;
        if (host->first == NULL)
            host->last = &host->first;
        pthread_mutex_unlock(&host->lock);
        full = strncmp(lookup->address, "full", 4) == 0;
        refuse(&answer, 452, 2, 2, "This mailbox is full");
        printf("%s %s\n", full ? "full" : "room", lookup->address);
        fflush(stdout);
        if (ph_verdict_complete(lookup->verdict, full ? &answer : NULL, &err) != PH_OK) {
            fprintf(stderr, "policy: %s\n", err.message);
            ph_verdict_free(lookup->verdict);
        }
        free(lookup);
        pthread_mutex_lock(&host->lock);
    }
    pthread_mutex_unlock(&host->lock);
    return NULL;
}

/* Whose token it is. A real host verifies a signature, or asks who has issued it; here one token is known by heart. It is compared in a
 * time that does not tell how much of it was right. */
static int32_t on_token(void *user_data, const ph_token_request *request, char *name)
{
    static const char known[] = "dXNlcjE6b3BlbiBzZXNhbWU";
    size_t i;
    int different = request->token.len != sizeof known - 1;
    (void)user_data;
    for (i = 0; i < request->token.len; i++)
        different |= request->token.data[i] ^ known[i % (sizeof known - 1)];
    if (different)
        return PH_TOKEN_REFUSED;
    strcpy(name, "user1@example.test");
    return PH_TOKEN_VALID;
}

static int serve(ph_engine *engine, ph_error *err)
{
    ph_listener_row row = PH_LISTENER_ROW_INIT;
    ph_listener_cursor *cursor = NULL;
    if (ph_engine_start(engine, err) != PH_OK || ph_listener_list(engine, &cursor, err) != PH_OK)
        return 1;
    printf("ready");
    while (ph_listener_next(cursor, &row, err) == PH_OK)
        printf(" %.*s=%.*s:%u", (int)row.name.len, (const char *)row.name.data, (int)row.address.len,
               (const char *)row.address.data, (unsigned)row.port);
    puts("");
    fflush(stdout);
    ph_listener_free(cursor);
    while (getchar() != EOF)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    const char *domain = "example.test", *listeners[2] = { "smtp=127.0.0.1:0", "submission=127.0.0.1:0" };
    ph_bytes addresses[2];
    ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
    ph_account_options account = PH_ACCOUNT_OPTIONS_INIT;
    ph_engine_options options = PH_ENGINE_OPTIONS_INIT;
    ph_engine *engine = NULL;
    ph_error err = PH_ERROR_INIT;
    struct host host;
    pthread_t thread;
    int failed = 1;

    if (argc < 2)
        return fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]), 2;
    addresses[0] = ph_bytes_of("user1@example.test");
    addresses[1] = ph_bytes_of("full@example.test");
    setup.hostname = "mail.example.test";
    setup.domains = &domain, setup.domain_count = 1;
    setup.listeners = listeners, setup.listener_count = 2;
    setup.postmaster_password = account.password = ph_bytes_of("correct horse");
    account.addresses = addresses, account.address_count = 2;

    memset(&host, 0, sizeof host);
    host.last = &host.first;
    pthread_mutex_init(&host.lock, NULL);
    pthread_cond_init(&host.more, NULL);
    if (pthread_create(&thread, NULL, answers, &host) != 0)
        return fprintf(stderr, "policy: no thread\n"), 1;
    options.policy = on_policy, options.policy_user_data = &host;
    options.policy_timeout_ms = 30000;
    options.token = on_token;

    if ((ph_instance_setup(argv[1], &setup, &err) == PH_OK || err.code == PH_E_EXISTS)
        && ph_instance_set(argv[1], "auth.mechanisms", "[\"PLAIN\", \"OAUTHBEARER\", \"XOAUTH2\"]", &err) == PH_OK
        && ph_engine_open(argv[1], &options, &engine, &err) == PH_OK
        && (ph_account_add(engine, &account, &err) == PH_OK || err.code == PH_E_EXISTS))
        failed = serve(engine, &err);
    if (failed)
        fprintf(stderr, "policy: %s\n", err.message);
    failed |= ph_engine_close(engine, &err) != PH_OK;

    /* Nothing is asked any more. A verdict may outlive the engine: what is left is answered to nobody. */
    pthread_mutex_lock(&host.lock);
    host.over = 1;
    pthread_cond_signal(&host.more);
    pthread_mutex_unlock(&host.lock);
    pthread_join(thread, NULL);
    return failed;
}
