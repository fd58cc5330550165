/*
 * A whole mail server: mail_server DIRECTORY [SMTP-PORT POP3-PORT]
 *
 * Makes an instance in the directory (or opens the one that is there) with the account user1@example.test, serves SMTP and
 * POP3 on 127.0.0.1 (ports that the system chooses, unless given), prints "ready smtp=... pop3=...", and runs until its
 * standard input ends. Each line of the input names a file, which is sent to user1 as a message.
 *
 *     cc mail_server.c -o mail_server -lposthouse
 */
#include <stdio.h>
#include <string.h>
#include "posthouse.h"

static char message[32 << 20];

/* Reads a file and gives it to the engine, which has it on disk when the call returns. */
static void submit(ph_engine *engine, const char *path, ph_bytes user)
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
}

int main(int argc, char **argv)
{
    char smtp[32], pop3[32], line[1024];
    const char *domain = "example.test", *listeners[2];
    ph_bytes user = ph_bytes_of("user1@example.test");
    ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
    ph_account_options account = PH_ACCOUNT_OPTIONS_INIT;
    ph_listener_row row = PH_LISTENER_ROW_INIT;
    ph_listener_cursor *cursor = NULL;
    ph_engine *engine = NULL;
    ph_error err = PH_ERROR_INIT;

    if (argc < 2)
        return fprintf(stderr, "usage: %s DIRECTORY [SMTP-PORT POP3-PORT]\n", argv[0]), 2;
    sprintf(smtp, "smtp=127.0.0.1:%.5s", argc > 3 ? argv[2] : "0");
    sprintf(pop3, "pop3=127.0.0.1:%.5s", argc > 3 ? argv[3] : "0");
    listeners[0] = smtp, listeners[1] = pop3;
    setup.hostname = "mail.example.test";
    setup.domains = &domain, setup.domain_count = 1;
    setup.listeners = listeners, setup.listener_count = 2;
    setup.postmaster_password = account.password = ph_bytes_of("correct horse");
    account.addresses = &user, account.address_count = 1;

    /* What is there already is used as it is. */
    if ((ph_instance_setup(argv[1], &setup, &err) == PH_OK || err.code == PH_E_EXISTS)
        && ph_engine_open(argv[1], NULL, &engine, &err) == PH_OK
        && (ph_account_add(engine, &account, &err) == PH_OK || err.code == PH_E_EXISTS)
        && ph_engine_start(engine, &err) == PH_OK
        && ph_listener_list(engine, &cursor, &err) == PH_OK) {
        printf("ready");
        while (ph_listener_next(cursor, &row, &err) == PH_OK)
            printf(" %.*s=%.*s:%u", (int)row.name.len, (const char *)row.name.data,
                   (int)row.address.len, (const char *)row.address.data, (unsigned)row.port);
        puts("");
        ph_listener_free(cursor);
        while (fflush(stdout) == 0 && fgets(line, sizeof line, stdin) != NULL) {
            line[strcspn(line, "\r\n")] = '\0';
            submit(engine, line, user);
        }
    }
    if (err.code != PH_OK)
        fprintf(stderr, "mail_server: %s\n", err.message);
    return ph_engine_close(engine, &err) != PH_OK;
}
