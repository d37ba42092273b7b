/* Whether a client that adapts watches for its reply: prints 1 or 0.

   watches ELSEWHERE WATCHES SKIP TOOK_US...: whether the worker has another processor than this
   thread, and watches for calls itself; for how many calls the client has given up to watch for
   workers that do not; what earlier calls took. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "transfer.h"

int main(int count, char **arguments)
{
    static Control control;
    Linkage linkage = {.control = &control};
    Ends ends = {.waits = ADAPTIVE, .door = -1, .notify = -1};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return 1;
    atomic_store(&miss_budget, MISSES_SAVED);
    atomic_store(&control.server_cpu, (uint32_t)sched_getcpu() + (uint32_t)atoi(arguments[1]));
    atomic_store(&control.spins, (uint32_t)atoi(arguments[2]));
    linkage.skip[0] = (uint32_t)atoi(arguments[3]);
    for (int i = 4; i < count; i++)
        learn_took(&linkage, atol(arguments[i]) * MICROSECOND);
    printf("%d\n", client_spins(&ends, &linkage));
    return 0;
}
