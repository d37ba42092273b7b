/* What becomes of a worker's affinity while it sleeps on its caller's processor.

   Prints how many processors the worker may use: before, while it is pinned, after; and after it was
   pinned, and somebody else has moved it meanwhile. */

#define _GNU_SOURCE
#include <stdio.h>

#include "transfer.h"

static int usable(void)
{
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    return CPU_COUNT(&mask);
}

int main(void)
{
    static Control control;
    Linkage linkage = {.control = &control};
    Worker worker = {.last_cpu = -1};
    cpu_set_t mask, others;
    uint32_t cpu = 0;
    sched_getaffinity(0, sizeof mask, &mask);
    while (!CPU_ISSET(cpu, &mask))
        cpu++;
    others = mask;
    CPU_CLR(cpu, &others);
    atomic_store(&control.client_cpu, cpu);
    printf("%d", usable());
    pin(&worker, &linkage, now_ns());
    printf(" %d", usable());
    unpin(&worker);
    printf(" %d", usable());
    pin(&worker, &linkage, now_ns());
    sched_setaffinity(0, sizeof others, &others); /* as `taskset -p` does from outside */
    unpin(&worker);
    printf(" %d\n", usable());
    return 0;
}
