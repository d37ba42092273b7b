/* Two threads over one mapping, with the transfer as the host kernel has it: for ThreadSanitizer.

   threads CALLS WAITS: a client makes calls and gives some of them up; a worker serves them. Each
   result must be that of its own call. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "transfer.h"

static Control control;
static uint32_t argument, result; /* on the A-stack: plain memory, whose order the word must keep */
static Ends client_ends, server_ends;
static Worker worker;
static Linkage client = {.control = &control}, server = {.control = &control};

static void *serve(void *unused)
{
    int spins = 0;
    for (;;) {
        int got = server_await(&server_ends, &worker, &server, spins, 3600 * SECOND);
        if (got == LEFT)
            return unused;
        if (got != COMPLETED)
            abort();
        uint32_t sum = argument + 1;
        spins = server_spins(&server_ends, &server, 0);
        if (atomic_load(&control.word) % 7 == 0)
            sched_yield();
        result = sum;
        if (server_reply(&server_ends, &server, spins ? WORKER_AWAKE : WORKER_ASLEEP) != COMPLETED)
            abort();
    }
}

int main(int count, char **arguments)
{
    long calls = atol(arguments[1]), aborted = 0, withdrawn = 0;
    pthread_t thread;
    client_ends.waits = server_ends.waits = count > 2 ? atoi(arguments[2]) : ADAPTIVE;
    client_ends.pins = server_ends.pins = 1;
    client_ends.door = client_ends.notify = server_ends.door = server_ends.notify = -1;
    atomic_store(&miss_budget, MISSES_SAVED);
    atomic_store(&control.word, WORD(0, IDLE));
    pthread_create(&thread, NULL, serve, NULL);
    for (long n = 1; n <= calls; n++) {
        argument = (uint32_t)n;
        if (client_start(&client_ends, &client, n % 3 ? 0 : CLIENT_ASLEEP) != COMPLETED)
            abort();
        int64_t deadline = n % 50 ? FOREVER : now_ns() + n % 7 * MICROSECOND;
        int got = client_wait(&client_ends, &client, deadline, n % 2);
        while (got == INTERRUPTED)
            got = client_wait(&client_ends, &client, deadline, 0);
        if (got == EXPIRED) {
            uint32_t phase = client_abort(&client_ends, &client);
            if (phase == RUNNING) { /* quarantined: wait until the server lets go */
                aborted++;
                while (PHASE(atomic_load(&control.word)) != DONE)
                    sched_yield();
                continue;
            }
            if (phase == CALLED) {
                withdrawn++;
                continue;
            }
            got = phase == DONE ? COMPLETED : BROKEN;
        }
        if (got != COMPLETED || result != (uint32_t)n + 1)
            abort();
    }
    atomic_store(&worker.leave, 1);
    raise_alarm(&worker.alarm);
    pthread_join(thread, NULL);
    printf("%ld calls, %ld aborted, %ld withdrawn\n", calls, aborted, withdrawn);
    return 0;
}
