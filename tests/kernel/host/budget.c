/* Threads that spin and always miss, as fast as they may: what of it falls into any second.

   budget THREADS: prints the most nanoseconds of misses within one second. A pause comes first and
   in the middle, after which what was saved up could be used at once. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "transfer.h"

#define MOST 100000

static _Atomic int count;
static int64_t began[MOST], took[MOST];
static int64_t end;

static void *miss(void *unused)
{
    _Atomic uint32_t word = DONE;
    _Atomic int never = 0;
    while (now_ns() < end) {
        if (!reserve_spin()) {
            usleep(100);
            continue;
        }
        int at = atomic_fetch_add(&count, 1);
        began[at] = now_ns();
        took[at] = spin(&word, DONE, IDLE, &never, NULL, SPIN_NS, FOREVER);
        settle_spin(took[at]);
    }
    return unused;
}

static int earlier(const void *one, const void *other)
{
    int64_t a = began[*(const int *)one], b = began[*(const int *)other];
    return (a > b) - (a < b);
}

int main(int arguments, char **given)
{
    pthread_t threads[16];
    int number = arguments > 1 ? atoi(given[1]) : 1;
    atomic_store(&miss_budget, MISSES_SAVED);
    atomic_store(&miss_budget_at, now_ns() - 10 * SECOND);
    for (int part = 0; part < 2; part++) {
        end = now_ns() + 700 * MILLISECOND;
        for (int i = 0; i < number; i++)
            pthread_create(&threads[i], NULL, miss, NULL);
        for (int i = 0; i < number; i++)
            pthread_join(threads[i], NULL);
        usleep(50000);
    }
    int n = atomic_load(&count), order[MOST];
    for (int i = 0; i < n; i++)
        order[i] = i;
    qsort(order, (size_t)n, sizeof *order, earlier);
    int64_t most = 0, sum = 0;
    for (int first = 0, last = 0; last < n; last++) {
        sum += took[order[last]];
        for (; began[order[first]] + SECOND < began[order[last]]; first++)
            sum -= took[order[first]];
        most = sum > most ? sum : most;
    }
    printf("%lld %d\n", (long long)most, n);
}
