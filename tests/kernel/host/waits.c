/* How a client's wait ends where nobody answers: prints what it returned, and after how many
   milliseconds.

   waits WAITV DEADLINE: with futex_waitv or without, with a deadline in milliseconds or 0 for none. */

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
    int ended = client_wait(&ends, &linkage, most ? began + most : FOREVER, 0);
    printf("%s %lld\n", ended == INTERRUPTED ? "INTERRUPTED" : ended == EXPIRED ? "EXPIRED" : "other",
           (long long)((now_ns() - began) / MILLISECOND));
    return 0;
}
