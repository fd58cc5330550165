/*
 * What is wrong is said: the right code, one line that names the object, and user_data let go. Wrong arguments, sizes of structs, and what
 * goes wrong on a machine: a wrong path, a port in use, a broken certificate, a damaged FORMAT, an instance in use.
 */
#include "test.h"

static int dropped;

static void on_drop(void *user_data)
{
    CHECK(user_data == &dropped);
    dropped++;
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fputs(text, file) >= 0);
    CHECK(fclose(file) == 0);
}

/* Options that are larger than the library knows, as a host of a later version has them. */
struct later {
    ph_engine_options known;
    uint64_t unknown[4];
};

static void arguments(const char *path)
{
    ph_error err = PH_ERROR_INIT, wrong = PH_ERROR_INIT;
    ph_engine *engine = NULL, *const garbage = (ph_engine *)&err;
    ph_engine_options options = PH_ENGINE_OPTIONS_INIT;
    ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
    ph_stats stats = PH_STATS_INIT;
    struct later later;
    union {
        ph_stats stats;
        uint8_t octets[sizeof(ph_stats) + 32];
    } room;
    ph_account_options account = PH_ACCOUNT_OPTIONS_INIT;
    ph_bytes bad = ph_bytes_of("caf\351"), address = ph_bytes_of("user1@example.test");
    ph_account_cursor *cursor = NULL;
    size_t i;

    /* NULL where it must not be. */
    FAILS(PH_E_NULL, ph_engine_open(NULL, NULL, &engine, &err));
    FAILS(PH_E_NULL, ph_engine_open(path, NULL, NULL, &err));
    CHECK(strstr(err.message, "out") != NULL);
    FAILS(PH_E_NULL, ph_engine_start(NULL, &err));
    FAILS(PH_E_NULL, ph_engine_stop(NULL, &err));
    FAILS(PH_E_NULL, ph_engine_stats(NULL, &stats, &err));
    FAILS(PH_E_NULL, ph_instance_setup(path, NULL, &err));
    FAILS(PH_E_NULL, ph_instance_setup(path, &setup, &err));
    CHECK(strstr(err.message, "hostname") != NULL);
    FAILS(PH_E_NULL, ph_account_list(NULL, NULL, &cursor, &err));
    FAILS(PH_E_NULL, ph_account_next(NULL, NULL, &err));
    CHECK(ph_engine_start(NULL, NULL) == PH_E_NULL);
    FAILS(PH_E_UTF8, ph_engine_open("caf\351", NULL, &engine, &err));
    FAILS(PH_E_INVALID_ARGUMENT, ph_engine_open("", NULL, &engine, &err));

    /* An out parameter of a failed constructor is NULL. */
    engine = garbage;
    FAILS(PH_E_NOT_AN_INSTANCE, ph_engine_open(in(path, "nowhere/at/all"), NULL, &engine, &err));
    CHECK(engine == NULL);
    CHECK(strstr(err.message, "nowhere/at/all") != NULL);

    /* struct_size: missing, absurd, and larger than the library's with and without something in the rest. */
    options.struct_size = 0;
    options.log_user_data = &dropped;
    options.log_drop_user_data = on_drop;
    FAILS(PH_E_STRUCT_SIZE, ph_engine_open(path, &options, &engine, &err));
    options.struct_size = 0x7fffffff;
    FAILS(PH_E_STRUCT_SIZE, ph_engine_open(path, &options, &engine, &err));
    CHECK(dropped == 0);
    options.struct_size = (uint32_t)sizeof options;
    options.log_level = 6;
    FAILS(PH_E_INVALID_ARGUMENT, ph_engine_open(path, &options, &engine, &err));
    CHECK(dropped == 1); /* the library had taken it over */
    options.log_level = 0;
    options.threads = 1025;
    FAILS(PH_E_INVALID_ARGUMENT, ph_engine_open(path, &options, &engine, &err));
    CHECK(dropped == 2);
    options.threads = 0;
    memset(&later, 0, sizeof later);
    later.known = options;
    later.known.struct_size = (uint32_t)sizeof later;
    later.unknown[3] = 1;
    FAILS(PH_E_STRUCT_SIZE, ph_engine_open(path, &later.known, &engine, &err));
    CHECK(dropped == 2);
    later.unknown[3] = 0;
    OK(ph_engine_open(path, &later.known, &engine, &err));
    CHECK(err.code == PH_OK && err.message[0] == '\0');

    /* A larger row: what the library does not know is zero, and nothing behind it is touched. */
    memset(&room, 0xee, sizeof room);
    room.stats.struct_size = (uint32_t)sizeof(ph_stats) + 16;
    OK(ph_engine_stats(engine, &room.stats, &err));
    CHECK(room.stats.struct_size == sizeof(ph_stats) + 16);
    CHECK(room.stats.messages_accepted == 0);
    for (i = sizeof(ph_stats); i < sizeof room.octets; i++)
        CHECK(room.octets[i] == (i < sizeof(ph_stats) + 16 ? 0 : 0xee));
    stats.struct_size = 8;
    FAILS(PH_E_STRUCT_SIZE, ph_engine_stats(engine, &stats, &err));

    /* An error struct that does not say its size is left alone. */
    memset(&wrong, 0xee, sizeof wrong);
    CHECK(ph_engine_stats(engine, &stats, &wrong) == PH_E_STRUCT_SIZE);
    CHECK((unsigned char)wrong.message[0] == 0xee);

    /* Values that cannot be. */
    account.password = ph_bytes_of("battery staple");
    FAILS(PH_E_INVALID_ARGUMENT, ph_account_add(engine, &account, &err));
    account.address_count = 1;
    FAILS(PH_E_NULL, ph_account_add(engine, &account, &err));
    account.addresses = &bad;
    FAILS(PH_E_UTF8, ph_account_add(engine, &account, &err));
    account.addresses = &address;
    account.password = ph_bytes_of("short");
    FAILS(PH_E_PASSWORD, ph_account_add(engine, &account, &err));
    account.reserved = 1;
    FAILS(PH_E_STRUCT_SIZE, ph_account_add(engine, &account, &err));
    FAILS(PH_E_NOT_FOUND, ph_account_remove(engine, address, &err));
    CHECK(strstr(err.message, "user1@example.test") != NULL);
    FAILS(PH_E_REFUSED, ph_account_remove(engine, ph_bytes_of("postmaster@example.test"), &err));
    FAILS(PH_E_INVALID_ARGUMENT,
          ph_engine_submit(engine, ph_bytes_of(""), NULL, 0, ph_bytes_of("x\r\n"), NULL, &err));
    FAILS(PH_E_NULL,
          ph_engine_submit(engine, ph_bytes_of(""), NULL, 1, ph_bytes_of("x\r\n"), NULL, &err));
    FAILS(PH_E_NOT_FOUND, ph_engine_submit(engine, ph_bytes_of(""), &address, 1,
                                           ph_bytes_of("x\r\n"), NULL, &err));
    CHECK(err.smtp_code == 550);
    FAILS(PH_E_NOT_FOUND, ph_queue_remove(engine, 12345, &err));
    OK(ph_engine_close(engine, &err));
    CHECK(dropped == 3);
}

static void machine(const char *root)
{
    static const char *const free_port[] = {"smtp=127.0.0.1:0"};
    char taken[64];
    const char *listeners[1];
    const char *const domains[] = {"example.test"};
    ph_error err = PH_ERROR_INIT;
    ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
    ph_listener_row row = PH_LISTENER_ROW_INIT;
    ph_listener_cursor *cursor = NULL;
    ph_engine *first = NULL, *second = NULL;

    /* A directory that is not there, and one without an instance. */
    put(in(root, "a-file"), "not an instance\n");
    FAILS(PH_E_EXISTS, make(in(root, "first"), free_port, 1, &err));
    CHECK(strstr(err.message, "first") != NULL);
    CHECK(make(in(root, "a-file/instance"), free_port, 1, &err) < 0);
    CHECK(strpbrk(err.message, "\r\n") == NULL && strstr(err.message, "a-file") != NULL);
    CHECK(ph_engine_open(in(root, "a-file"), NULL, &first, &err) < 0);
    CHECK(strpbrk(err.message, "\r\n") == NULL && strstr(err.message, "a-file") != NULL);

    /* An instance that is in use. */
    OK(ph_engine_open(in(root, "first"), NULL, &first, &err));
    FAILS(PH_E_LOCKED, ph_engine_open(in(root, "first"), NULL, &second, &err));
    CHECK(second == NULL);

    /* A port that is in use: the engine stays open and can be administered. */
    OK(ph_engine_start(first, &err));
    OK(ph_listener_list(first, &cursor, &err));
    OK(ph_listener_next(cursor, &row, &err));
    sprintf(taken, "smtp=127.0.0.1:%u", (unsigned)row.port);
    ph_listener_free(cursor);
    listeners[0] = taken;
    OK(make(in(root, "second"), listeners, 1, &err));
    OK(ph_engine_open(in(root, "second"), NULL, &second, &err));
    FAILS(PH_E_ADDRESS_IN_USE, ph_engine_start(second, &err));
    CHECK(strstr(err.message, taken + strlen("smtp=")) != NULL);
    OK(ph_engine_close(first, &err));
    OK(ph_engine_start(second, &err)); /* now it is free */
    OK(ph_engine_close(second, &err));

    /* A broken certificate. */
    put(in(root, "broken.pem"), "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n");
    setup.hostname = "mail.example.test";
    setup.domains = domains;
    setup.domain_count = 1;
    setup.postmaster_password = ph_bytes_of("correct horse");
    setup.tls = PH_TLS_FILES;
    FAILS(PH_E_NULL, ph_instance_setup(in(root, "third"), &setup, &err));
    setup.certificate_file = setup.key_file = in(root, "broken.pem");
    FAILS(PH_E_CERTIFICATE, ph_instance_setup(in(root, "third"), &setup, &err));
    CHECK(strstr(err.message, "broken.pem") != NULL);
    FAILS(PH_E_NOT_AN_INSTANCE, ph_engine_open(in(root, "third"), NULL, &first, &err));
    setup.tls = 9;
    FAILS(PH_E_INVALID_ARGUMENT, ph_instance_setup(in(root, "third"), &setup, &err));
    setup.tls = PH_TLS_NONE;
    setup.hostname = "not a host name";
    FAILS(PH_E_INVALID_ARGUMENT, ph_instance_setup(in(root, "third"), &setup, &err));
    listeners[0] = "smtp=here";
    FAILS(PH_E_ADDRESS_INVALID, make(in(root, "third"), listeners, 1, &err));
    listeners[0] = "gopher=127.0.0.1:70";
    FAILS(PH_E_INVALID_ARGUMENT, make(in(root, "third"), listeners, 1, &err));

    /* A damaged FORMAT. */
    put(in(root, "second/FORMAT"), "this is no format");
    FAILS(PH_E_CORRUPT, ph_engine_open(in(root, "second"), NULL, &second, &err));
    CHECK(strstr(err.message, "FORMAT") != NULL);

    /* A damaged configuration. */
    put(in(root, "first/posthouse.toml"), "hostname = ");
    FAILS(PH_E_CONFIG, ph_engine_open(in(root, "first"), NULL, &first, &err));
    CHECK(strstr(err.message, "posthouse.toml") != NULL);
}

int main(int argc, char **argv)
{
    static const char *const free_port[] = {"smtp=127.0.0.1:0"};
    ph_error err = PH_ERROR_INIT;
    if (argc != 2)
        return 2;
    OK(make(in(argv[1], "first"), free_port, 1, &err));
    arguments(in(argv[1], "first"));
    machine(argv[1]);

    CHECK(strcmp(ph_status_str(PH_OK), "success") == 0);
    CHECK(strcmp(ph_status_str(PH_E_ADDRESS_IN_USE), "the address is in use") == 0);
    CHECK(ph_status_str(-999999) != NULL && ph_status_str(42) != NULL);
    CHECK(strcmp(ph_version_str(), PH_VERSION) == 0);
    CHECK(ph_abi_level() >= PH_ABI_LEVEL);
    CHECK(ph_bytes_of(NULL).len == 0 && ph_bytes_of(NULL).data != NULL);
    use_everything();
    puts("errors: ok");
    return 0;
}
