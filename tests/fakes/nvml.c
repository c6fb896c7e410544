/* An NVIDIA management library without NVIDIA. The scenario is in the environment:
 *   NVML_CARDS=2            how many cards
 *   NVML_FAIL=Name:15       the function nvmlName answers this error
 *   NVML_FAIL_CARD=1        ... for this card only
 *   NVML_HANG=Name          the function nvmlName never returns
 *   NVML_UUIDS=GPU-a,GPU-b  the cards' UUIDs, in their order
 *   NVML_USED=1073741824    what is used of each card, in bytes
 *   NVML_PID=4242           who is on the first card
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int gpu, memory; } Utilisation;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } Process;

static int number(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static int verdict(const char *function, long card) {
    const char *hang = getenv("NVML_HANG"), *fail = getenv("NVML_FAIL");
    size_t length = strlen(function);
    if (hang && !strcmp(hang, function)) for (;;) sleep(60);
    if (fail && !strncmp(fail, function, length) && fail[length] == ':') {
        int only = number("NVML_FAIL_CARD", -1);
        if (only < 0 || card < 0 || only == card) return atoi(fail + length + 1);
    }
    return 0;
}

#define ASK(function, card) do { int code = verdict(function, card); if (code) return code; } while (0)
#define CARD(handle) ((long)(handle) - 1)

int nvmlInitWithFlags(unsigned int flags) { (void)flags; ASK("Init", -1); return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { ASK("Count", -1); *count = number("NVML_CARDS", 2); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    ASK("Handle", index);
    *handle = (void *)(long)(index + 1);
    return 0;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned int size) {
    ASK("UUID", CARD(handle));
    const char *given = getenv("NVML_UUIDS");
    for (long skip = CARD(handle); given && skip; skip--) given = strchr(given, ',') ? strchr(given, ',') + 1 : NULL;
    if (given) snprintf(text, size, "%.*s", (int)strcspn(given, ","), given);
    else snprintf(text, size, "GPU-00000000-0000-0000-0000-%012ld", CARD(handle));
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned int size) {
    (void)handle;
    snprintf(text, size, "NVIDIA Imaginary 24GB");
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    ASK("Memory", CARD(handle));
    memory->total = 24ULL << 30;
    memory->used = getenv("NVML_USED") ? strtoull(getenv("NVML_USED"), NULL, 10) : (1ULL + CARD(handle)) << 30;
    memory->free = memory->total - memory->used;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, Utilisation *rates) {
    ASK("Utilisation", CARD(handle));
    rates->gpu = 37;
    rates->memory = 12;
    return 0;
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned int *celsius) {
    (void)sensor;
    ASK("Temperature", CARD(handle));
    *celsius = 61;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned int *milliwatts) {
    ASK("Power", CARD(handle));
    *milliwatts = 215500;
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned int *count, Process *found) {
    ASK("Processes", CARD(handle));
    if (CARD(handle) != 0) { *count = 0; return 0; }
    if (*count < 1) { *count = 1; return 7; }
    *count = 1;
    found[0] = (Process){number("NVML_PID", 4242), 1ULL << 30, 0xFFFFFFFF, 0xFFFFFFFF};
    return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned int size) { snprintf(text, size, "570.00"); return 0; }
const char *nvmlErrorString(int code) { (void)code; return "an imaginary error"; }
