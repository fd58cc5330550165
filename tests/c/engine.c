/*
 * The life of engines: several in one process, started and stopped as often as wanted, handles destroyed in any
 * order, callbacks that try what they must not, user_data dropped exactly once.
 */
#include "test.h"

struct watch {
    ph_engine *engine;
    ph_engine *other;
    ph_queue_cursor *cursor;
    int listening;
    int stopped;
    int lines;
    int dropped;
};

static void on_event(void *user_data, const ph_event *event)
{
    struct watch *watch = (struct watch *)user_data;
    ph_error err = PH_ERROR_INIT;
    ph_stats stats = PH_STATS_INIT;
    ph_queue_row row = PH_QUEUE_ROW_INIT;
    ph_listener_cursor *listeners = NULL;

    CHECK(event->struct_size >= sizeof(ph_event));
    if (event->kind == PH_EVENT_LISTENING) {
        watch->listening++;
        CHECK(event->address.len > strlen("127.0.0.1:"));
    }
    watch->stopped += event->kind == PH_EVENT_STOPPED;
    if (watch->engine == NULL)
        return;
    FAILS(PH_E_REENTRANT, ph_engine_stats(watch->engine, &stats, &err));
    FAILS(PH_E_REENTRANT, ph_engine_stop(watch->engine, &err));
    FAILS(PH_E_REENTRANT, ph_engine_close(watch->engine, &err));
    FAILS(PH_E_REENTRANT, ph_listener_list(watch->engine, &listeners, &err));
    CHECK(listeners == NULL);
    if (watch->cursor != NULL)
        FAILS(PH_E_REENTRANT, ph_queue_next(watch->cursor, &row, &err));
    if (watch->other != NULL)
        OK(ph_engine_stats(watch->other, &stats, &err));
}

static void on_log(void *user_data, uint32_t level, ph_bytes room, ph_bytes line)
{
    struct watch *watch = (struct watch *)user_data;
    CHECK(level >= PH_LOG_ERROR && level <= PH_LOG_TRACE);
    CHECK(room.data != NULL && line.data != NULL);
    watch->lines++; /* a race would only miscount */
}

static void on_drop(void *user_data)
{
    ((struct watch *)user_data)->dropped++;
}

static ph_engine *open_watched(const char *path, struct watch *watch)
{
    ph_engine_options options = PH_ENGINE_OPTIONS_INIT;
    ph_error err = PH_ERROR_INIT;
    ph_engine *engine = NULL;
    options.log_level = PH_LOG_TRACE;
    options.log = on_log;
    options.log_user_data = watch;
    options.log_drop_user_data = on_drop;
    options.event = on_event;
    options.event_user_data = watch;
    options.event_drop_user_data = on_drop;
    options.threads = 2;
    OK(ph_engine_open(path, &options, &engine, &err));
    CHECK(engine != NULL);
    return engine;
}

static int count_listeners(ph_engine *engine, uint32_t *port)
{
    ph_error err = PH_ERROR_INIT;
    ph_listener_row row = PH_LISTENER_ROW_INIT;
    ph_listener_cursor *cursor = NULL;
    int count = 0;
    ph_status status;
    OK(ph_listener_list(engine, &cursor, &err));
    while ((status = ph_listener_next(cursor, &row, &err)) == PH_OK) {
        CHECK(same(row.address, "127.0.0.1"));
        CHECK(row.port > 0 && row.port < 65536);
        *port = row.port;
        count++;
    }
    CHECK(status == PH_END);
    CHECK(ph_listener_next(cursor, &row, &err) == PH_END);
    ph_listener_free(cursor);
    return count;
}

int main(int argc, char **argv)
{
    static const char *const listeners[] = {"smtp=127.0.0.1:0", "pop3=127.0.0.1:0"};
    struct watch one = {NULL, NULL, NULL, 0, 0, 0, 0}, two = {NULL, NULL, NULL, 0, 0, 0, 0};
    ph_error err = PH_ERROR_INIT;
    ph_account_row account = PH_ACCOUNT_ROW_INIT;
    ph_queue_row queued = PH_QUEUE_ROW_INIT;
    ph_account_cursor *accounts = NULL;
    ph_queue_cursor *queue = NULL;
    ph_mailbox_cursor *mailboxes = NULL;
    ph_mailbox_filter filter = PH_MAILBOX_FILTER_INIT;
    ph_check *check = NULL;
    ph_compact *compact = NULL;
    ph_compact_options compact_options = PH_COMPACT_OPTIONS_INIT;
    ph_compact_totals compacted = PH_COMPACT_TOTALS_INIT;
    ph_scrub *scrub = NULL;
    ph_scrub_options scrub_options = PH_SCRUB_OPTIONS_INIT;
    ph_scrub_totals scrubbed = PH_SCRUB_TOTALS_INIT;
    ph_store_state *state = NULL;
    ph_store_totals store = PH_STORE_TOTALS_INIT;
    ph_store_lane lane = PH_STORE_LANE_INIT;
    uint32_t lanes = 0;
    ph_check_row finding = PH_CHECK_ROW_INIT;
    ph_bytes report;
    ph_check_totals totals = PH_CHECK_TOTALS_INIT;
    ph_message *message = NULL;
    ph_bytes recipient = ph_bytes_of("postmaster@example.test");
    ph_bytes text = ph_bytes_of("Subject: hello\r\n\r\nworld\r\n");
    uint64_t id = 0;
    uint32_t first = 0, second = 0;
    uint8_t buffer[64];
    size_t got = 0;
    int i;

    if (argc != 2)
        return 2;

    /* Two instances, two engines, one process. */
    OK(make(in(argv[1], "one"), listeners, 2, &err));
    OK(make(in(argv[1], "two"), listeners, 2, &err));
    one.engine = open_watched(in(argv[1], "one"), &one);
    two.engine = open_watched(in(argv[1], "two"), &two);
    one.other = two.engine;
    OK(ph_queue_list(one.engine, NULL, &one.cursor, &err));

    CHECK(count_listeners(one.engine, &first) == 0);
    for (i = 1; i <= 10; i++) {
        OK(ph_engine_start(one.engine, &err));
        OK(ph_engine_start(one.engine, &err)); /* without effect */
        CHECK(one.listening == 2 * i);
        CHECK(count_listeners(one.engine, &first) == 2);
        if (i == 1) {
            OK(ph_engine_start(two.engine, &err));
            CHECK(count_listeners(two.engine, &second) == 2);
            CHECK(first != second);
        }
        OK(ph_engine_stop(one.engine, &err));
        OK(ph_engine_stop(one.engine, &err)); /* without effect */
        CHECK(one.stopped == i);
        CHECK(count_listeners(one.engine, &first) == 0);
    }
    CHECK(two.stopped == 0);
    CHECK(count_listeners(two.engine, &second) == 2);

    /* What is made from an engine outlives it. */
    OK(ph_engine_submit(two.engine, ph_bytes_of(""), &recipient, 1, text, &id, &err));
    CHECK(id != 0);
    OK(ph_account_list(two.engine, NULL, &accounts, &err));
    OK(ph_queue_list(two.engine, NULL, &queue, &err));
    filter.account = recipient;
    OK(ph_mailbox_list(two.engine, &filter, &mailboxes, &err));
    OK(ph_engine_check(two.engine, NULL, &check, &err));
    compact_options.below_percent = 101;
    CHECK(ph_engine_compact(two.engine, &compact_options, &compact, &err) == PH_E_INVALID_ARGUMENT);
    CHECK(compact == NULL);
    compact_options.below_percent = 60;
    OK(ph_engine_compact(two.engine, &compact_options, &compact, &err));
    OK(ph_compact_stats(compact, &compacted, &err));
    CHECK(compacted.findings == 0 && compacted.freed <= compacted.segments);
    CHECK(ph_compact_next(compact, &finding, &err) == PH_END);
    OK(ph_compact_json(compact, &report, &err));
    CHECK(report.len > 0);
    OK(ph_engine_scrub(two.engine, &scrub_options, &scrub, &err));
    OK(ph_scrub_stats(scrub, &scrubbed, &err));
    CHECK(scrubbed.findings == 0 && scrubbed.corrected == 0);
    CHECK(ph_scrub_next(scrub, &finding, &err) == PH_END);
    OK(ph_scrub_json(scrub, &report, &err));
    CHECK(report.len > 0);
    OK(ph_engine_store_state(two.engine, &state, &err));
    OK(ph_store_state_totals(state, &store, &err));
    CHECK(store.space == PH_SPACE_AMPLE && store.serving == 1 && store.damage == 0);
    CHECK(store.lanes >= 2 && store.read_only_lanes == 0 && store.rebuilding_lanes == 0);
    CHECK(store.segments > 0 && store.log_bytes > 0 && store.live_bytes > 0 && store.live_bytes < store.log_bytes);
    CHECK(store.total_bytes >= store.free_bytes && store.free_bytes > 0);
    CHECK(store.scrubs == 1 && store.scrubbed > 0 && store.scrub_findings == 0);
    while (ph_store_state_next(state, &lane, &err) == PH_OK) {
        CHECK(lane.lane == lanes && lane.read_only_since == 0 && lane.reason.len == 0 && lane.rebuilding == 0);
        lanes++;
        CHECK(lane.large == (lanes == store.lanes));
    }
    CHECK(lanes == store.lanes);
    lane.struct_size = 3;
    CHECK(ph_store_state_next(state, &lane, &err) == PH_E_STRUCT_SIZE);
    OK(ph_store_state_json(state, &report, &err));
    CHECK(report.len > 0);
    CHECK(ph_engine_store_state(two.engine, NULL, &err) == PH_E_NULL);
    CHECK(ph_store_state_totals(NULL, &store, &err) == PH_E_NULL);
    OK(ph_message_open(two.engine, id, &message, &err));
    CHECK(one.dropped == 0 && two.dropped == 0);
    OK(ph_engine_close(two.engine, &err)); /* while it serves */
    CHECK(two.dropped == 2);
    CHECK(two.stopped == 1);

    ph_account_next(accounts, &account, &err); /* either answer is right, neither may crash */
    ph_queue_next(queue, &queued, &err);
    ph_message_read(message, 0, buffer, sizeof buffer, &got, &err);
    CHECK(ph_message_len(message) > text.len);
    OK(ph_check_stats(check, &totals, &err));
    CHECK(totals.problems == 0);
    ph_message_close(message);
    ph_check_free(check);
    ph_compact_free(compact);
    ph_scrub_free(scrub);
    OK(ph_store_state_json(state, &report, &err)); /* outlives the engine */
    ph_store_state_free(state);
    ph_mailbox_free(mailboxes);
    ph_queue_free(queue);
    ph_account_free(accounts);

    /* And the other order, one made before the engine ends and freed after. */
    one.other = NULL;
    OK(ph_engine_start(one.engine, &err));
    OK(ph_engine_close(one.engine, &err));
    CHECK(one.dropped == 2);
    ph_queue_free(one.cursor);

    /* The lock is released: the same instance opens again. */
    one.engine = NULL;
    one.engine = open_watched(in(argv[1], "one"), &one);
    one.cursor = NULL;
    OK(ph_engine_close(one.engine, &err));
    CHECK(one.dropped == 4);

    /* NULL is nothing to destroy. */
    OK(ph_engine_close(NULL, &err));
    ph_account_free(NULL);
    ph_alias_free(NULL);
    ph_check_free(NULL);
    ph_compact_free(NULL);
    ph_scrub_free(NULL);
    ph_store_state_free(NULL);
    ph_listener_free(NULL);
    ph_mailbox_free(NULL);
    ph_message_free(NULL);
    ph_message_close(NULL);
    ph_pop3_server_free(NULL);
    ph_queue_free(NULL);
    ph_smtp_server_free(NULL);
    use_everything();
    puts("engine: ok");
    return 0;
}
