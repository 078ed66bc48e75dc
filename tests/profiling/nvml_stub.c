/* A libnvidia-ml.so.1 that reads its GPUs from a script: NVML_STUB_SCRIPT names a file of lines "word values...".
 *
 *   driver 560.1                      version
 *   gpu UUID PCI NAME                 a GPU; the lines after it are about it. NAME has no spaces
 *   mig UUID INSTANCE NAME            a MIG device of the GPU before it; the lines after it are about it
 *   total BYTES   used BYTES   power WATTS   limit WATTS   energy JOULES      (energy: when the library is opened)
 *   capability MAJOR MINOR   cores N   clock MHZ   temperature C   reasons BITS   pcie RX TX   (bytes a second)
 *   util HIGH LOW SECONDS             per cent: HIGH and LOW by turns, for that long each
 *   buffer SECONDS COUNT              the driver keeps COUNT measurements, one each SECONDS
 *   sample SECONDS VALUE              instead: one measurement that ends so long after the library is opened
 *   gpm SM TENSOR DRAM RX TX          per cent, MiB/s; without this line the device has no GPM
 *   gpmfrom SECONDS                   before that it was idle
 *   migmode 1                         the GPU is divided
 *   lost SECONDS                      from then on the GPU is lost
 *   narrow 1                          the PCIe byte counters have 32 bits
 *   field ID CODE                     this field answers CODE
 *   fail FUNCTION CODE GPU AFTER      FUNCTION answers CODE for GPU (index; -1: all) after AFTER calls; -1: it hangs
 *   processes FILE                    lines "UUID PID", read at every question
 *
 * -DOLD_DRIVER leaves out what drivers before 2023 do not have. NVML_STUB_COUNTS names a file for the number of calls.
 * The layouts are those of nvml.h; the test process loads this with the real nvidia-ml-py.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int nvmlReturn_t;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, LOST = 15, MISMATCH = 25 };

typedef struct device {
    char uuid[96], pci[32], name[96];
    struct device *parent;
    int index, instance, mig_mode, major, minor, cores, clock, temperature, narrow, has_gpm;
    unsigned long long reasons;
    double total, used, power, limit, energy, rx, tx, high, low, turn, period, lost, gpm[5], gpm_from;
    int kept, samples;
    double sample_at[64], sample_value[64];
} device;

typedef union {
    double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; int si; unsigned short us;
} value_t;
typedef struct { unsigned long long when; value_t value; } sample_t;
typedef struct { unsigned id, scope; long long when, latency; int type; nvmlReturn_t result; value_t value; } field_t;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { double when; device *of; } gpm_sample;
typedef struct { unsigned id; nvmlReturn_t result; double value; const char *info[3]; } gpm_metric;
typedef struct { unsigned version, count; gpm_sample *first, *second; gpm_metric metrics[]; } gpm_request;
typedef struct { char legacy[16]; unsigned domain, bus, slot, id, subsystem; char bus_id[32]; } pci_info;

static device devices[32];
static int n_devices, opened;
static char driver[80] = "560.35.03", processes[4096];
static double started;
static struct { char name[96]; int code, gpu, after; } fails[32];
static int n_fails;
static struct { int id, code; } bad_fields[16];
static int n_bad_fields;
static struct { const char *name; int count; } counts[64];
static int n_counts;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void line(char *text) {
    static device *d;
    char word[32];
    int used = 0, code;
    double x;
    if (sscanf(text, "%31s %n", word, &used) != 1) return;
    char *rest = text + used;
    if (!strcmp(word, "driver")) { sscanf(rest, "%79s", driver); return; }
    if (!strcmp(word, "processes")) { sscanf(rest, "%4095s", processes); return; }
    if (!strcmp(word, "fail")) {
        sscanf(rest, "%95s %d %d %d", fails[n_fails].name, &fails[n_fails].code, &fails[n_fails].gpu,
               &fails[n_fails].after);
        n_fails++;
        return;
    }
    if (!strcmp(word, "field")) {
        sscanf(rest, "%d %d", &bad_fields[n_bad_fields].id, &bad_fields[n_bad_fields].code);
        n_bad_fields++;
        return;
    }
    if (!strcmp(word, "gpu") || !strcmp(word, "mig")) {
        device *before = d;
        d = &devices[n_devices];
        d->index = n_devices++;
        if (word[0] == 'g') sscanf(rest, "%95s %31s %95s", d->uuid, d->pci, d->name);
        else {
            d->parent = before->parent ? before->parent : before;
            sscanf(rest, "%95s %d %95s", d->uuid, &d->instance, d->name);
        }
        d->major = 9; d->cores = 1000; d->clock = 1500; d->temperature = 50; d->turn = 1; d->lost = INFINITY;
        d->total = 80e9; d->used = 8e9; d->power = 300; d->limit = 700;
        return;
    }
    if (!d) { fprintf(stderr, "nvml stub: %s before any gpu\n", word); abort(); }
    if (!strcmp(word, "reasons")) d->reasons = strtoull(rest, NULL, 0);
    else if (!strcmp(word, "util")) sscanf(rest, "%lf %lf %lf", &d->high, &d->low, &d->turn);
    else if (!strcmp(word, "buffer")) sscanf(rest, "%lf %d", &d->period, &d->kept);
    else if (!strcmp(word, "sample")) {
        sscanf(rest, "%lf %lf", &d->sample_at[d->samples], &d->sample_value[d->samples]);
        d->samples++;
    } else if (!strcmp(word, "gpm")) {
        d->has_gpm = 1;
        sscanf(rest, "%lf %lf %lf %lf %lf", &d->gpm[0], &d->gpm[1], &d->gpm[2], &d->gpm[3], &d->gpm[4]);
    } else if (!strcmp(word, "capability")) sscanf(rest, "%d %d", &d->major, &d->minor);
    else if (!strcmp(word, "pcie")) sscanf(rest, "%lf %lf", &d->rx, &d->tx);
    else if (sscanf(rest, "%lf", &x) == 1) {
        code = (int)x;
        if (!strcmp(word, "total")) d->total = x;
        else if (!strcmp(word, "used")) d->used = x;
        else if (!strcmp(word, "power")) d->power = x;
        else if (!strcmp(word, "limit")) d->limit = x;
        else if (!strcmp(word, "energy")) d->energy = x;
        else if (!strcmp(word, "lost")) d->lost = x;
        else if (!strcmp(word, "gpmfrom")) d->gpm_from = x;
        else if (!strcmp(word, "cores")) d->cores = code;
        else if (!strcmp(word, "clock")) d->clock = code;
        else if (!strcmp(word, "temperature")) d->temperature = code;
        else if (!strcmp(word, "migmode")) d->mig_mode = code;
        else if (!strcmp(word, "narrow")) d->narrow = code;
        else { fprintf(stderr, "nvml stub: unknown word %s\n", word); abort(); }
    }
}

static void count(const char *name, int *calls) {
    for (int i = 0; i < n_counts; i++)
        if (!strcmp(counts[i].name, name)) { *calls = counts[i].count++; return; }
    counts[n_counts].name = name;
    counts[n_counts++].count = 1;
    *calls = 0;
}

static nvmlReturn_t enter(const char *name, device *d) {
    int calls;
    count(name, &calls);
    for (int i = 0; i < n_fails; i++)
        if (!strcmp(fails[i].name, name) && calls >= fails[i].after &&
            (fails[i].gpu < 0 || (d && d->index == fails[i].gpu)))
            return fails[i].code == -1 ? pause() : fails[i].code;
    if (!opened) return UNINITIALIZED;
    if (d && now() - started >= (d->parent ? d->parent : d)->lost) return LOST;
    return OK;
}

#define ENTER(d) do { nvmlReturn_t r_ = enter(__func__, d); if (r_) return r_; } while (0)
#define WHOLE(d) do { if ((d)->parent) return NOT_SUPPORTED; } while (0)

static device *gpu_at(unsigned index) {
    for (int i = 0; i < n_devices; i++)
        if (!devices[i].parent && index-- == 0) return &devices[i];
    return NULL;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!started) {
        char text[512];
        FILE *file = fopen(getenv("NVML_STUB_SCRIPT"), "r");
        if (!file) return 9;
        while (fgets(text, sizeof text, file)) line(text);
        fclose(file);
        started = now();
    }
    opened++;
    nvmlReturn_t result = enter(__func__, NULL);
    if (result) opened--;
    return result;
}

nvmlReturn_t nvmlShutdown(void) {
    ENTER(NULL);
    opened--;
    const char *path = getenv("NVML_STUB_COUNTS");
    FILE *file = path && !opened ? fopen(path, "w") : NULL;
    if (file) {
        for (int i = 0; i < n_counts; i++) fprintf(file, "%s %d\n", counts[i].name, counts[i].count);
        fclose(file);
    }
    return OK;
}

const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "an error of the stub"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *text, unsigned size) {
    ENTER(NULL);
    snprintf(text, size, "%s", driver);
    return OK;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *n) {
    ENTER(NULL);
    for (*n = 0; gpu_at(*n); ++*n) {}
    return OK;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    ENTER(gpu_at(index));
    return (*out = gpu_at(index)) ? OK : INVALID;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, device **out) {
    ENTER(NULL);
    for (int i = 0; i < n_devices; i++)
        if (!strcmp(devices[i].uuid, uuid)) { *out = &devices[i]; return OK; }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pci, device **out) {
    ENTER(NULL);
    for (int i = 0; i < n_devices; i++)
        if (!devices[i].parent && !strcasecmp(devices[i].pci, pci)) { *out = &devices[i]; return OK; }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetName(device *d, char *text, unsigned size) {
    ENTER(d);
    snprintf(text, size, "%s", d->name);
    return OK;
}

nvmlReturn_t nvmlDeviceGetUUID(device *d, char *text, unsigned size) {
    ENTER(d);
    snprintf(text, size, "%s", d->uuid);
    return OK;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(device *d, pci_info *info) {
    ENTER(d);
    WHOLE(d);
    memset(info, 0, sizeof *info);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", d->pci);
    return OK;
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *mw) {
    ENTER(d);
    WHOLE(d);
    *mw = (unsigned)(d->limit * 1000);
    return OK;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(device *d, unsigned *mw) {
    ENTER(d);
    WHOLE(d);
    *mw = (unsigned)(d->power * 1000);
    return OK;
}

nvmlReturn_t nvmlDeviceGetNumGpuCores(device *d, unsigned *n) {
    ENTER(d);
    *n = d->cores;
    return OK;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(device *d, int type, unsigned *mhz) {
    (void)type;
    ENTER(d);
    *mhz = d->clock;
    return OK;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
    ENTER(d);
    *major = d->major; *minor = d->minor;
    return OK;
}

nvmlReturn_t nvmlDeviceGetClockInfo(device *d, int type, unsigned *mhz) {
    ENTER(d);
    WHOLE(d);
    *mhz = type == 1 ? d->clock : type == 2 ? 2 * d->clock : 0;
    return *mhz ? OK : INVALID;
}

static unsigned long long millijoules(device *d) {
    return (unsigned long long)(1000 * (d->energy + d->power * (now() - started)));
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(device *d, unsigned long long *mj) {
    ENTER(d);
    WHOLE(d);
    *mj = millijoules(d);
    return OK;
}

nvmlReturn_t nvmlDeviceGetTemperature(device *d, int sensor, unsigned *c) {
    ENTER(d);
    WHOLE(d);
    *c = d->temperature;
    return sensor ? INVALID : OK;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(device *d, unsigned long long *total_free_used) {
    ENTER(d);
    unsigned long long reserved = 1000000000;
    total_free_used[0] = d->total;
    total_free_used[1] = d->total - d->used - reserved;
    total_free_used[2] = d->used + reserved;
    return OK;
}

static double share_at(device *d, double t) { return fmod(floor(t / d->turn), 2) == 0 ? d->high : d->low; }

nvmlReturn_t nvmlDeviceGetUtilizationRates(device *d, unsigned *gpu_memory) {
    ENTER(d);
    WHOLE(d);
    gpu_memory[0] = (unsigned)share_at(d, now() - started);
    gpu_memory[1] = 0;
    return OK;
}

nvmlReturn_t nvmlDeviceGetSamples(device *d, int type, unsigned long long since, int *value_type, unsigned *n,
                                  sample_t *out) {
    ENTER(d);
    WHOLE(d);
    if (type != 1) return INVALID;
    if (!d->samples && !d->kept) return NOT_SUPPORTED;
    unsigned size = d->samples ? d->samples : d->kept, room = *n, found = 0;
    *value_type = 1;
    if (!out) { *n = size; return OK; }
    double t = now();
    long long last = d->kept ? (long long)floor(t / d->period) : 0;
    for (unsigned i = 0; i < size && found < room; i++) {
        double at = d->samples ? started + d->sample_at[i] : (last - (long long)size + 1 + i) * d->period;
        unsigned long long when = (unsigned long long)llround(at * 1e6);
        if (at > t || when <= since) continue;
        out[found].when = when;
        out[found++].value.ui = (unsigned)(d->samples ? d->sample_value[i] : share_at(d, at - started - d->period / 2));
    }
    *n = found;
    return found ? OK : NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(device *d, int counter, unsigned *kb) {
    ENTER(d);
    WHOLE(d);
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    *kb = (unsigned)((counter == 1 ? d->rx : d->tx) / 1000);
    return OK;
}

nvmlReturn_t nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending) {
    ENTER(d);
    if (d->major < 8) return NOT_SUPPORTED;
    *current = *pending = d->mig_mode;
    return OK;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(device *d, unsigned *is) {
    ENTER(d);
    *is = d->parent != NULL;
    return OK;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *n) {
    ENTER(d);
    *n = d->mig_mode ? 7 : 0;
    return OK;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **out) {
    ENTER(d);
    for (int i = 0; i < n_devices; i++)
        if (devices[i].parent == d && index-- == 0) { *out = &devices[i]; return OK; }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *d, device **out) {
    ENTER(d);
    return (*out = d->parent) ? OK : INVALID;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(device *d, unsigned *id) {
    ENTER(d);
    *id = d->instance;
    return d->parent ? OK : NOT_SUPPORTED;
}

static nvmlReturn_t running(device *d, unsigned *n, process_t *out) {
    char uuid[96];
    unsigned pid, found = 0, room = *n;
    FILE *file = fopen(processes, "r");
    while (file && fscanf(file, "%95s %u", uuid, &pid) == 2)
        if (!strcmp(uuid, d->uuid)) {
            if (out && found < room) out[found] = (process_t){pid, 1000000, 0xFFFFFFFF, 0xFFFFFFFF};
            found++;
        }
    if (file) fclose(file);
    *n = found;
    return found > room ? SMALL : OK;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(device *d, unsigned *n, process_t *out) {
    ENTER(d);
    return running(d, n, out);
}

#ifdef OLD_DRIVER
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(device *d, unsigned long long *bits) {
    ENTER(d);
    WHOLE(d);
    *bits = d->reasons;
    return OK;
}

#else
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *n, process_t *out) {
    ENTER(d);
    return running(d, n, out);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(device *d, unsigned long long *bits) {
    ENTER(d);
    WHOLE(d);
    *bits = d->reasons;
    return OK;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(device *d, unsigned *version_sensor_value) {
    ENTER(d);
    WHOLE(d);
    if (version_sensor_value[0] != 0x100000C) return MISMATCH;
    version_sensor_value[2] = d->temperature;
    return OK;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(device *d, void *out) {
    ENTER(d);
    struct { unsigned version; unsigned long long total, reserved, free, used; } *info = out;
    if (info->version != 0x02000028) return MISMATCH;
    info->total = d->total; info->reserved = 1000000000; info->used = d->used;
    info->free = info->total - info->used - info->reserved;
    return OK;
}

nvmlReturn_t nvmlDeviceGetFieldValues(device *d, int n, field_t *fields) {
    ENTER(d);
    WHOLE(d);
    for (int i = 0; i < n; i++) {
        field_t *f = &fields[i];
        double t = now() - started;
        f->result = OK;
        for (int j = 0; j < n_bad_fields; j++)
            if (bad_fields[j].id == (int)f->id) f->result = bad_fields[j].code;
        if (f->id == 185) { f->type = 1; f->value.ui = (unsigned)(d->power * 1000); }
        else if (f->id == 83) { f->type = 3; f->value.ull = millijoules(d); }
        else if (f->id == 197 || f->id == 198) {
            double bytes = (f->id == 198 ? d->rx : d->tx) * t;
            f->type = d->narrow ? 1 : 3;
            if (d->narrow) f->value.ui = (unsigned)fmod(bytes, 4294967296.0);
            else f->value.ull = (unsigned long long)bytes;
        } else f->result = NOT_SUPPORTED;
    }
    return OK;
}

nvmlReturn_t nvmlGpmQueryDeviceSupport(device *d, unsigned *version_supported) {
    ENTER(d);
    if (version_supported[0] != 1) return MISMATCH;
    version_supported[1] = d->has_gpm && d->major >= 9;
    return OK;
}

nvmlReturn_t nvmlGpmSampleAlloc(gpm_sample **out) {
    ENTER(NULL);
    *out = calloc(1, sizeof **out);
    return OK;
}

nvmlReturn_t nvmlGpmSampleFree(gpm_sample *sample) {
    ENTER(NULL);
    free(sample);
    return OK;
}

nvmlReturn_t nvmlGpmSampleGet(device *d, gpm_sample *sample) {
    ENTER(d);
    WHOLE(d);
    *sample = (gpm_sample){now(), d};
    return OK;
}

nvmlReturn_t nvmlGpmMigSampleGet(device *d, unsigned instance, gpm_sample *sample) {
    ENTER(d);
    WHOLE(d);
    for (int i = 0; i < n_devices; i++)
        if (devices[i].parent == d && devices[i].instance == (int)instance) {
            *sample = (gpm_sample){now(), &devices[i]};
            return OK;
        }
    return INVALID;
}

nvmlReturn_t nvmlGpmMetricsGet(gpm_request *request) {
    ENTER(request->second->of);
    if (request->version != 1) return MISMATCH;
    if (request->first->of != request->second->of || request->first->when >= request->second->when) return INVALID;
    static const unsigned ids[] = {2, 5, 10, 21, 20};
    device *d = request->second->of;
    if (request->second->when - request->first->when < 0.09) return INVALID;  // sooner than the counters are renewed
    double from = request->first->when, to = request->second->when, idle = started + d->gpm_from - from;
    double busy = 1 - fmin(fmax(idle / (to - from), 0), 1);
    for (unsigned i = 0; i < request->count; i++) {
        request->metrics[i].result = NOT_SUPPORTED;
        for (int j = 0; j < 5; j++)
            if (ids[j] == request->metrics[i].id && d->gpm[j] >= 0) {
                request->metrics[i].result = OK;
                request->metrics[i].value = d->gpm[j] * busy;
            }
    }
    return OK;
}
#endif
