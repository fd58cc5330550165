/*
 * Counts the sync calls of a process without slowing it down: load it with LD_PRELOAD, and name a file of at least eight octets in
 * COUNT_SYNCS. The file's first eight octets are the count, in the machine's byte order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t *count;

__attribute__((constructor)) static void open_count(void)
{
    const char *name = getenv("COUNT_SYNCS");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        abort(); /* a count that nobody sees would look like none */
    count = page;
    close(file);
}

#define COUNTED(name)                                                         \
    int name(int file)                                                        \
    {                                                                         \
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name);             \
        __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);                       \
        return real(file);                                                    \
    }

COUNTED(fsync)
COUNTED(fdatasync)
COUNTED(syncfs)

int msync(void *start, size_t length, int flags)
{
    int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync");
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    return real(start, length, flags);
}
