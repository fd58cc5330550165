/* A test aid for Wine before 8.13, never shipped: the one function of bcryptprimitives.dll that Rust's standard library
 * imports. Every Windows that Posthouse supports has the DLL; Debian 12's Wine does not, and without it no Rust program
 * starts there. */
#include <windows.h>

/* RtlGenRandom of advapi32 */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length)
{
    while (length > 0) {
        ULONG part = length > 0x40000000 ? 0x40000000 : (ULONG)length;
        if (!SystemFunction036(bytes, part))
            return FALSE;
        bytes += part;
        length -= part;
    }
    return TRUE;
}
