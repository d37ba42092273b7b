/* How a client's wait ends where nobody answers: prints what it returned, and after how many
   milliseconds.

   waits WAITV DEADLINE [ASLEEP]: with futex_waitv or without, with a deadline in milliseconds or 0
   for none; with a third argument the client watches, for a worker that sleeps or one that runs. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "transfer.h"

int main(int count, char **arguments)
{
    static Control control;
    Linkage linkage = {.control = &control, .number = 1};
    Ends ends = {.waits = ALWAYS_SLEEP, .door = -1, .notify = -1};
    int64_t began = now_ns(), most = count > 2 ? atol(arguments[2]) * MILLISECOND : 0;
    atomic_store(&waitv_missing, !atoi(arguments[1]));
    atomic_store(&control.word, WORD(1, RUNNING | CLIENT_ASLEEP));
    if (count > 3) {
        ends.waits = ALWAYS_SPIN;
        atomic_store(&control.word, atoi(arguments[3]) ? WORD(1, CALLED | WORKER_ASLEEP) : WORD(1, RUNNING));
    }
    int ended = client_wait(&ends, &linkage, most ? began + most : FOREVER, count > 3);
    printf("%s %lld\n", ended == INTERRUPTED ? "INTERRUPTED" : ended == EXPIRED ? "EXPIRED" : "other",
           (long long)((now_ns() - began) / MILLISECOND));
    return 0;
}
