/*
 * Accounts, aliases, and messages through the engine: submitted, listed, read in pieces, queued, removed, and there again
 * after the instance was closed.
 */
#include "test.h"

static ph_bytes view(const void *data, size_t len)
{
    ph_bytes made;
    made.data = (const uint8_t *)data;
    made.len = len;
    return made;
}

/* The whole message, read in pieces of this size; to be freed. */
static uint8_t *whole(ph_engine *engine, uint64_t id, size_t piece, size_t *len)
{
    ph_error err = PH_ERROR_INIT;
    ph_message *message = NULL;
    uint8_t *octets;
    size_t got = 0;
    OK(ph_message_open(engine, id, &message, &err));
    *len = (size_t)ph_message_len(message);
    octets = (uint8_t *)malloc(*len + piece);
    CHECK(octets != NULL);
    for (*len = 0;; *len += got) {
        OK(ph_message_read(message, *len, octets + *len, piece, &got, &err));
        CHECK(got <= piece);
        if (got == 0)
            break;
    }
    CHECK(*len == ph_message_len(message));
    OK(ph_message_read(message, UINT64_MAX, octets, piece, &got, &err));
    CHECK(got == 0);
    FAILS(PH_E_NULL, ph_message_read(message, 0, NULL, 1, &got, &err));
    FAILS(PH_E_NULL, ph_message_read(message, 0, octets, 1, NULL, &err));
    ph_message_close(message);
    return octets;
}

static void round_trip(ph_engine *engine, const uint8_t *text, size_t len, size_t piece)
{
    ph_error err = PH_ERROR_INIT;
    ph_bytes to = ph_bytes_of("user1@example.test");
    uint64_t id = 0;
    size_t total = 0;
    uint8_t *octets;
    OK(ph_engine_submit(engine, ph_bytes_of("sender@elsewhere.test"), &to, 1, view(text, len), &id, &err));
    octets = whole(engine, id, piece, &total);
    /* The trace fields stand in front; behind them every octet as it was. */
    CHECK(total > len);
    CHECK(memcmp(octets, "Return-Path: <sender@elsewhere.test>\r\nReceived: ", 48) == 0);
    CHECK(len == 0 || memcmp(octets + total - len, text, len) == 0);
    CHECK(memcmp(octets + total - len - 2, "\r\n", 2) == 0);
    free(octets);
}

static void messages(ph_engine *engine)
{
    static const char *const small[] = {
        "Subject: one\r\n\r\nbody\r\n", "\r\n", "Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n.\r\n",
        "Subject: 8-bit\r\n\r\n\303\251\344\270\255\r\n", "no end of line"};
    ph_error err = PH_ERROR_INIT;
    ph_bytes to = ph_bytes_of("user1@example.test");
    ph_message_filter filter = PH_MESSAGE_FILTER_INIT;
    ph_message_row row = PH_MESSAGE_ROW_INIT;
    ph_message_cursor *cursor = NULL;
    ph_mailbox_filter mailbox_filter = PH_MAILBOX_FILTER_INIT;
    ph_mailbox_row inbox = PH_MAILBOX_ROW_INIT;
    ph_mailbox_cursor *mailboxes = NULL;
    ph_message *message = NULL;
    size_t i, count, large = (size_t)3 << 20;
    uint8_t *text;
    uint32_t last = 0;
    uint64_t octets = 0;
    ph_status status;

    for (i = 0; i < sizeof small / sizeof small[0]; i++)
        round_trip(engine, (const uint8_t *)small[i], strlen(small[i]), i + 1);
    round_trip(engine, NULL, 0, 16);
    text = (uint8_t *)malloc(large);
    CHECK(text != NULL);
    for (i = 0; i < large; i++)
        text[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : (uint8_t)('!' + i % 90);
    round_trip(engine, text, large, 100000);
    free(text);
    FAILS(PH_E_INVALID_ARGUMENT, ph_engine_submit(engine, to, &to, 1, ph_bytes_of("a\nb\r\n"), NULL, &err));
    FAILS(PH_E_INVALID_ARGUMENT, ph_engine_submit(engine, to, &to, 1, view("a\0b\r\n", 5), NULL, &err));
    FAILS(PH_E_ADDRESS, ph_engine_submit(engine, ph_bytes_of("no address"), &to, 1, ph_bytes_of("\r\n"), NULL, &err));
    FAILS(PH_E_NOT_FOUND, ph_message_open(engine, 1, &message, &err));
    CHECK(message == NULL);

    /* More than a cursor reads at once. */
    for (i = 0; i < 300; i++)
        OK(ph_engine_submit(engine, to, &to, 1, ph_bytes_of("x\r\n"), NULL, &err));
    filter.account = to;
    OK(ph_message_list(engine, &filter, &cursor, &err));
    for (count = 0; (status = ph_message_next(cursor, &row, &err)) == PH_OK; count++) {
        CHECK(row.uid > last);
        CHECK(row.received_ms > 0 && row.flags == 0);
        last = row.uid;
        octets += row.size;
        if (count == 2) /* one that comes meanwhile disturbs nothing */
            OK(ph_engine_submit(engine, to, &to, 1, ph_bytes_of("y\r\n"), NULL, &err));
    }
    CHECK(status == PH_END);
    CHECK(count == 308);
    ph_message_free(cursor);
    filter.after_uid = last - 2;
    filter.mailbox = PH_MAILBOX_INBOX;
    OK(ph_message_list(engine, &filter, &cursor, &err));
    OK(ph_message_next(cursor, &row, &err));
    OK(ph_message_next(cursor, &row, &err));
    CHECK(ph_message_next(cursor, &row, &err) == PH_END);
    ph_message_free(cursor);
    filter.account = ph_bytes_of("nobody@example.test");
    FAILS(PH_E_NOT_FOUND, ph_message_list(engine, &filter, &cursor, &err));

    mailbox_filter.account = to;
    OK(ph_mailbox_list(engine, &mailbox_filter, &mailboxes, &err));
    OK(ph_mailbox_next(mailboxes, &inbox, &err));
    CHECK(inbox.mailbox == PH_MAILBOX_INBOX && same(inbox.name, "INBOX"));
    CHECK(inbox.messages == 308 && inbox.uid_next > last && inbox.bytes == octets);
    CHECK(ph_mailbox_next(mailboxes, &inbox, &err) == PH_END);
    ph_mailbox_free(mailboxes);
}

static void queue(ph_engine *engine)
{
    ph_error err = PH_ERROR_INIT;
    ph_bytes to[2];
    ph_queue_row row = PH_QUEUE_ROW_INIT;
    ph_queue_filter filter = PH_QUEUE_FILTER_INIT;
    ph_queue_cursor *cursor = NULL;
    uint64_t first = 0, second = 0;
    to[0] = ph_bytes_of("remote@elsewhere.test");
    to[1] = ph_bytes_of("user1@example.test");
    OK(ph_engine_submit(engine, ph_bytes_of("user1@example.test"), to, 2, ph_bytes_of("queued\r\n"), &first, &err));
    OK(ph_engine_submit(engine, ph_bytes_of(""), to, 1, ph_bytes_of("queued\r\n"), &second, &err));
    OK(ph_queue_list(engine, NULL, &cursor, &err));
    OK(ph_queue_next(cursor, &row, &err));
    CHECK(row.message_id == first || row.message_id == second);
    CHECK(row.recipient_count == 1);
    CHECK(same(row.recipients[0], "remote@elsewhere.test"));
    CHECK(row.recipient_states[0] == PH_RECIPIENT_REMOTE);
    CHECK(same(row.from, row.message_id == first ? "user1@example.test" : ""));
    filter.after = row.message_id;
    OK(ph_queue_next(cursor, &row, &err));
    CHECK(ph_queue_next(cursor, &row, &err) == PH_END);
    ph_queue_free(cursor);
    OK(ph_queue_list(engine, &filter, &cursor, &err));
    OK(ph_queue_next(cursor, &row, &err));
    CHECK(ph_queue_next(cursor, &row, &err) == PH_END);
    ph_queue_free(cursor);
    {
        uint64_t meant = 0;
        OK(ph_queue_run(engine, ph_bytes_of(""), &meant, &err));
        CHECK(meant == 2);
        OK(ph_queue_run(engine, ph_bytes_of("@test"), &meant, &err));
        CHECK(meant == 2);
        OK(ph_queue_run(engine, ph_bytes_of("test"), &meant, &err));
        CHECK(meant == 0);
        FAILS(PH_E_INVALID_ARGUMENT, ph_queue_run(engine, ph_bytes_of("no domain"), NULL, &err));
    }
    OK(ph_queue_remove(engine, first, &err));
    FAILS(PH_E_NOT_FOUND, ph_queue_remove(engine, first, &err));
}

static void people(ph_engine *engine)
{
    ph_error err = PH_ERROR_INIT;
    ph_account_options options = PH_ACCOUNT_OPTIONS_INIT;
    ph_account_filter filter = PH_ACCOUNT_FILTER_INIT;
    ph_account_row account = PH_ACCOUNT_ROW_INIT;
    ph_account_cursor *accounts = NULL;
    ph_alias_row alias = PH_ALIAS_ROW_INIT;
    ph_alias_cursor *aliases = NULL;
    ph_bytes addresses[2], targets[2];

    addresses[0] = ph_bytes_of("user1@example.test");
    addresses[1] = ph_bytes_of("first.user@example.test");
    options.addresses = addresses;
    options.address_count = 2;
    options.login = ph_bytes_of("user1");
    options.password = ph_bytes_of("battery staple");
    OK(ph_account_add(engine, &options, &err));
    FAILS(PH_E_EXISTS, ph_account_add(engine, &options, &err));
    OK(ph_account_list(engine, NULL, &accounts, &err));
    OK(ph_account_next(accounts, &account, &err));
    CHECK(account.address_count == 1 && same(account.addresses[0], "postmaster@example.test"));
    OK(ph_account_next(accounts, &account, &err));
    CHECK(account.address_count == 2 && same(account.login, "user1"));
    CHECK(same(account.addresses[0], "user1@example.test"));
    CHECK(same(account.addresses[1], "first.user@example.test"));
    CHECK(ph_account_next(accounts, &account, &err) == PH_END);
    ph_account_free(accounts);
    filter.domain = ph_bytes_of("elsewhere.test");
    OK(ph_account_list(engine, &filter, &accounts, &err));
    CHECK(ph_account_next(accounts, &account, &err) == PH_END);
    ph_account_free(accounts);
    OK(ph_account_set_password(engine, addresses[1], ph_bytes_of("another staple"), &err));
    FAILS(PH_E_PASSWORD, ph_account_set_password(engine, addresses[1], ph_bytes_of("x"), &err));

    targets[0] = addresses[0];
    targets[1] = ph_bytes_of("remote@elsewhere.test");
    OK(ph_alias_add(engine, ph_bytes_of("sales@example.test"), targets, 2, &err));
    FAILS(PH_E_EXISTS, ph_alias_add(engine, ph_bytes_of("sales@example.test"), targets, 2, &err));
    OK(ph_alias_list(engine, NULL, &aliases, &err));
    OK(ph_alias_next(aliases, &alias, &err));
    CHECK(same(alias.address, "sales@example.test") && alias.target_count == 2);
    CHECK(same(alias.targets[1], "remote@elsewhere.test"));
    CHECK(ph_alias_next(aliases, &alias, &err) == PH_END);
    ph_alias_free(aliases);
    OK(ph_alias_remove(engine, ph_bytes_of("sales@example.test"), &err));
    FAILS(PH_E_NOT_FOUND, ph_alias_remove(engine, ph_bytes_of("sales@example.test"), &err));
}

static uint64_t progress_total;

static void on_progress(void *user_data, uint64_t done, uint64_t total)
{
    CHECK(user_data == &progress_total);
    CHECK(done <= total);
    progress_total = total;
}

int main(int argc, char **argv)
{
    ph_error err = PH_ERROR_INIT;
    ph_engine *engine = NULL;
    ph_stats stats = PH_STATS_INIT;
    ph_check *check = NULL;
    ph_check_options check_options = PH_CHECK_OPTIONS_INIT;
    ph_check_totals totals = PH_CHECK_TOTALS_INIT;
    ph_check_row problem = PH_CHECK_ROW_INIT;
    ph_repair_report *repair = NULL;
    ph_repair_options repair_options = PH_REPAIR_OPTIONS_INIT;
    ph_repair_totals repaired = PH_REPAIR_TOTALS_INIT;
    ph_repair_row line = PH_REPAIR_ROW_INIT;
    ph_bytes json;
    ph_message_filter filter = PH_MESSAGE_FILTER_INIT;
    ph_message_row row = PH_MESSAGE_ROW_INIT;
    ph_message_cursor *cursor = NULL;
    int count = 0;

    if (argc != 2)
        return 2;
    OK(make(in(argv[1], "instance"), NULL, 0, &err));
    OK(ph_engine_open(in(argv[1], "instance"), NULL, &engine, &err));
    people(engine);
    messages(engine);
    queue(engine);
    OK(ph_engine_stats(engine, &stats, &err));
    CHECK(stats.messages_accepted == 7 + 301 + 2);
    CHECK(stats.log_syncs > 0 && stats.log_bytes > (uint64_t)3 << 20);

    check_options.progress = on_progress;
    check_options.progress_user_data = &progress_total;
    OK(ph_engine_check(engine, &check_options, &check, &err));
    OK(ph_check_stats(check, &totals, &err));
    CHECK(totals.problems == 0 && totals.queue_entries == 1 && totals.records > 0);
    CHECK(ph_check_next(check, &problem, &err) == PH_END);
    OK(ph_check_json(check, &json, &err));
    CHECK(json.len > 2 && json.data[0] == '{' && json.data[json.len - 1] == '}');
    ph_check_free(check);
    CHECK(progress_total > 0);

    /* Nobody may have what is repaired open. */
    CHECK(ph_repair(in(argv[1], "instance"), NULL, &repair, &err) == PH_E_LOCKED && repair == NULL);
    OK(ph_engine_close(engine, &err));
    repair_options.drop_lost = 2;
    CHECK(ph_repair(in(argv[1], "instance"), &repair_options, &repair, &err) == PH_E_INVALID_ARGUMENT);
    repair_options.drop_lost = 1;
    progress_total = 0;
    repair_options.progress = on_progress;
    repair_options.progress_user_data = &progress_total;
    OK(ph_repair(in(argv[1], "instance"), &repair_options, &repair, &err));
    CHECK(progress_total > 0);
    OK(ph_repair_stats(repair, &repaired, &err));
    CHECK(repaired.rebuilt > 0 && repaired.imported > 0 && repaired.problems == 0);
    CHECK(repaired.lost == 0 && repaired.dropped == 0 && repaired.recounted == 0);
    for (count = 0; ph_repair_next(repair, &line, &err) == PH_OK; count++)
        CHECK(line.kind == PH_REPAIR_MENDED && line.line.len > 0);
    CHECK(count == (int)repaired.rebuilt);
    OK(ph_repair_json(repair, &json, &err));
    CHECK(json.len > 2 && json.data[0] == '{' && json.data[json.len - 1] == '}');
    ph_repair_free(repair);
    count = 0;

    /* All of it is there in another life of the instance. */
    OK(ph_engine_open(in(argv[1], "instance"), NULL, &engine, &err));
    filter.account = ph_bytes_of("first.user@example.test");
    OK(ph_message_list(engine, &filter, &cursor, &err));
    while (ph_message_next(cursor, &row, &err) == PH_OK)
        count++;
    CHECK(count == 309);
    ph_message_free(cursor);
    OK(ph_account_remove(engine, filter.account, &err));
    FAILS(PH_E_NOT_FOUND, ph_message_list(engine, &filter, &cursor, &err));
    OK(ph_engine_close(engine, &err));
    use_everything();
    puts("messages: ok");
    return 0;
}
