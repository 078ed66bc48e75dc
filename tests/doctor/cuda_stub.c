/* A libcuda.so.1 of few functions. CUDA_STUB: "VERSION INIT DEVICES", e.g. "12040 0 2"; INIT -1 crashes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int value(int which) {
    int version = 0, init = 100, devices = 0;
    const char *said = getenv("CUDA_STUB");
    if (said) sscanf(said, "%d %d %d", &version, &init, &devices);
    return which == 0 ? version : which == 1 ? init : devices;
}
int cuDriverGetVersion(int *version) { *version = value(0); return 0; }
int cuDeviceGetCount(int *count) { *count = value(2); return 0; }
int cuInit(unsigned flags) {
    (void)flags;
    if (value(1) == -1) raise(SIGSEGV);
    return value(1);
}
