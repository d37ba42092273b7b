/* One worker that spins for all of its domain. No Python here: who lends and who goes over is decided
   under the interpreter lock, in spinners.h.

   As many workers of a process spin as there are processors to spare. Another one lends its A-stack to
   one that spins, and sleeps on its alarm alone. The A-stack's calls then belong to its holder:

     OWN    the worker that attends: nobody else touches linkage or word
     LENT   nobody: the spinner may take a call, and the worker may have the A-stack back
     TAKEN  the spinner, which has taken a call and is about to go over

   To wake another worker for a call costs more than the spin has saved. So the spinner runs the
   procedure itself: it goes over to the A-stack that has the call, and whoever slept there attends the
   one that the spinner leaves, lent in its place. All else in this kernel may therefore rely on it that
   a worker runs procedures of the A-stack that it attends, and of no other. And while it runs one, a
   worker that can be woken attends each of the others: the watcher has it do so where it has seen a call
   wait for the spinner twice, a tick apart. */

#ifndef LRPC_LENDING_H
#define LRPC_LENDING_H

#define TICK_MS 1 /* between two looks of the watcher at what is lent */

static int server_take(Linkage *linkage);

/* Have an A-stack back that was lent. Returns whether it is: else the spinner is about to go over. */
static int recall(Linkage *linkage)
{
    int holder = LENT;
    return atomic_compare_exchange_strong(&linkage->holder, &holder, OWN) || holder == OWN;
}

/* Return which lent A-stack has a call, in turn; -1 for none. */
static int find_lent(const Worker *worker)
{
    uint32_t count = atomic_load_explicit(&worker->lent_count, memory_order_acquire);
    for (uint32_t i = 0, at = worker->next_lent; i < count; i++, at++) {
        at = at < count ? at : 0;
        const Linkage *one = worker->lent[at].linkage;
        if (atomic_load_explicit(&one->holder, memory_order_relaxed) == LENT
            && PHASE(atomic_load_explicit(&one->control->word, memory_order_relaxed)) == CALLED)
            return (int)at;
    }
    return -1;
}

/* Take the call of a lent A-stack, and have `took` say which. Returns as `server_take`; `took` stays as it
   was where the A-stack is not lent any more. */
static int take_lent(Worker *worker, int at)
{
    Linkage *linkage = worker->lent[at].linkage;
    int holder = LENT;
    worker->next_lent = (uint32_t)at + 1;
    if (!atomic_compare_exchange_strong(&linkage->holder, &holder, TAKEN))
        return LEFT;
    worker->took = at;
    return server_take(linkage);
}

/* Wake the worker of each lent A-stack whose call has waited since the last look: its spinner is in a
   procedure, or has no processor. Returns how many there were. */
static int recall_waiting(Worker *worker)
{
    int found = 0;
    for (uint32_t at = 0; at < atomic_load(&worker->lent_count); at++) {
        Lent *lent = &worker->lent[at];
        uint32_t word = atomic_load(&lent->linkage->control->word), seen = lent->seen;
        lent->seen = PHASE(word) == CALLED ? word : 0;
        int holder = LENT;
        if (!seen || NUMBER(seen) != NUMBER(word) || PHASE(word) != CALLED
            || !atomic_compare_exchange_strong(&lent->linkage->holder, &holder, OWN))
            continue;
        lent->seen = 0;
        raise_alarm(&lent->linkage->worker->alarm);
        found++;
    }
    return found;
}

#endif
