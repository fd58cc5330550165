/*
 * unload DIRECTORY: a Windows program that loads posthouse.dll at run time, serves with it, closes, and unloads it, five
 * times. The library stays loaded after its first engine (it says so at ph_engine_open), so that every round can
 * listen; unloaded together with ws2_32 it could not.
 */
#include <windows.h>
#include <stdio.h>
#include "posthouse.h"

typedef ph_status (*setup_fn)(const char *, const ph_setup_options *, ph_error *);
typedef ph_status (*open_fn)(const char *, const ph_engine_options *, ph_engine **, ph_error *);
typedef ph_status (*call_fn)(ph_engine *, ph_error *);

/* By way of an integer: C knows no cast between functions and objects. */
static void *find(HMODULE library, const char *name)
{
    return (void *)(UINT_PTR)GetProcAddress(library, name);
}

int main(int argc, char **argv)
{
    const char *domain = "example.test", *listener = "smtp=127.0.0.1:0";
    ph_setup_options setup = PH_SETUP_OPTIONS_INIT;
    int round;

    if (argc != 2)
        return fprintf(stderr, "usage: unload DIRECTORY\n"), 2;
    setup.hostname = "mail.example.test";
    setup.domains = &domain, setup.domain_count = 1;
    setup.listeners = &listener, setup.listener_count = 1;
    setup.postmaster_password.data = (const uint8_t *)"correct horse";
    setup.postmaster_password.len = 13;
    for (round = 1; round <= 5; round++) {
        HMODULE library = LoadLibraryA("posthouse.dll");
        ph_error err = PH_ERROR_INIT;
        ph_engine *engine = NULL;
        ph_status status;

        if (library == NULL)
            return printf("round %d: not loaded: %lu\n", round, GetLastError()), 1;
        status = ((setup_fn)find(library, "ph_instance_setup"))(argv[1], &setup, &err);
        if ((status == PH_OK) != (round == 1))
            return printf("round %d: setup: %s\n", round, err.message), 1;
        if (((open_fn)find(library, "ph_engine_open"))(argv[1], NULL, &engine, &err) != PH_OK
            || ((call_fn)find(library, "ph_engine_start"))(engine, &err) != PH_OK
            || ((call_fn)find(library, "ph_engine_close"))(engine, &err) != PH_OK)
            return printf("round %d: %s\n", round, err.message), 1;
        FreeLibrary(library);
        if (GetModuleHandleA("posthouse.dll") == NULL)
            return printf("round %d: the library is gone\n", round), 1;
    }
    puts("ok 5 rounds, the library stayed loaded");
    return 0;
}
