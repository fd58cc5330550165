/* What the C tests share: a check that says where it failed, instances, and texts as views. */
#ifndef TEST_H
#define TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posthouse.h"

#define CHECK(condition) \
    ((condition) ? (void)0 : failed(__FILE__, __LINE__, #condition, NULL))

/* The call goes well; err says why not. */
#define OK(call) \
    (((call) == PH_OK) ? (void)0 : failed(__FILE__, __LINE__, #call, &err))

/* The call fails with this code, and the error says so in one line. */
#define FAILS(wanted, call) \
    fails(__FILE__, __LINE__, #call, (wanted), (call), &err)

static void failed(const char *file, int line, const char *what, const ph_error *err)
{
    fprintf(stderr, "%s:%d: %s", file, line, what);
    if (err != NULL)
        fprintf(stderr, ": %d %s", (int)err->code, err->message);
    fputc('\n', stderr);
    exit(1);
}

static void fails(const char *file, int line, const char *what, ph_status wanted, ph_status got,
                  const ph_error *err)
{
    if (got == wanted && err->code == wanted && err->message[0] != '\0'
        && strpbrk(err->message, "\r\n") == NULL)
        return;
    fprintf(stderr, "wanted %d, got %d\n", (int)wanted, (int)got);
    failed(file, line, what, err);
}

static int same(ph_bytes view, const char *text)
{
    return view.len == strlen(text) && memcmp(view.data, text, view.len) == 0;
}

/* DIRECTORY/NAME, until the next but three calls. */
static const char *in(const char *directory, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    if (strlen(directory) + strlen(name) + 2 > sizeof paths[0])
        failed(__FILE__, __LINE__, "a short path", NULL);
    sprintf(path, "%s/%s", directory, name);
    return path;
}

/* Makes an instance mail.example.test for example.test, without TLS. */
static ph_status make(const char *path, const char *const *listeners, size_t count, ph_error *err)
{
    static const char *const domains[] = {"example.test"};
    ph_setup_options options = PH_SETUP_OPTIONS_INIT;
    options.hostname = "mail.example.test";
    options.domains = domains;
    options.domain_count = 1;
    options.listeners = listeners;
    options.listener_count = count;
    options.postmaster_password = ph_bytes_of("correct horse");
    return ph_instance_setup(path, &options, err);
}

static ph_status add_account(ph_engine *engine, const char *address, const char *login,
                             ph_error *err)
{
    ph_account_options options = PH_ACCOUNT_OPTIONS_INIT;
    ph_bytes addresses[1];
    addresses[0] = ph_bytes_of(address);
    options.addresses = addresses;
    options.address_count = 1;
    options.login = ph_bytes_of(login);
    options.password = ph_bytes_of("battery staple");
    return ph_account_add(engine, &options, err);
}

/* Every program uses all of this, so that none of it is an unused function. */
static void use_everything(void)
{
    (void)same;
    (void)in;
    (void)make;
    (void)add_account;
    (void)fails;
    (void)use_everything;
}

#endif
