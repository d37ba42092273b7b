/* A worker that spins, and two that lend it their A-stacks: for ThreadSanitizer.

   lending CALLS: three clients make so many calls each, and give some of them up. Three workers serve
   them: one spins and goes over to what has a call, and the others have theirs back now and then. It
   stops where it misses or is held up, and another spins. Workers are dismissed, and take an A-stack
   again that nobody attends. All that spinners.h does is done here: a mutex stands for the interpreter
   lock, and a count for the references of an object. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "transfer.h"

#define STACKS 3
#define HOUR (3600 * SECOND)
#define MOST_SPINNERS 64
#define PEER_BROKEN 1
#define Py_BEGIN_ALLOW_THREADS pthread_mutex_unlock(&interpreter);
#define Py_END_ALLOW_THREADS pthread_mutex_lock(&interpreter);
#define Py_NewRef(object) (((PyObject *)(object))->count++, (PyObject *)(object))
#define Py_DECREF(object) (((PyObject *)(object))->count--)

typedef struct {
    int count;
} PyObject;

typedef struct {
    Linkage linkage;
} AStack;

typedef struct {
    PyObject object;
    Ends ends;
    AStack astacks[1];
    PyObject entries, served;
    /* The client's, and what both share. */
    Ends client_ends;
    Linkage client;
    Control control;
    uint32_t argument, result; /* on the A-stack: plain memory, whose order the word must keep */
} Binding;

typedef struct WorkerObject {
    Worker worker;
    Binding *binding;
    uint32_t index;
    int lends;
    PyObject *entries, *served, *stub, *pending;
} WorkerObject;

static pthread_mutex_t interpreter = PTHREAD_MUTEX_INITIALIZER, watch_lock = PTHREAD_MUTEX_INITIALIZER;
static int kick, ticking;
static WorkerObject *listed[MOST_SPINNERS];
static Binding bindings[STACKS];
static WorkerObject workers[STACKS];
static PyObject pending;
static long calls, taken; /* the latter under the interpreter lock */
static atomic_long withdrawn, aborted, recalled;
static _Atomic int closes, over;  /* workers that leave are to end; and so is the watcher */
static _Atomic int rounds; /* how often that has looked */

static void end_binding(Binding *binding, int why)
{
    (void)binding, (void)why;
    abort(); /* no client here has spoilt anything */
}

#include "spinners.h"

/* The procedure: now and then one that others do not wait for. */
static uint32_t run(WorkerObject *self, uint32_t argument)
{
    if (self->worker.listed && argument % 64 == 0)
        for (int before = atomic_load(&rounds); atomic_load(&rounds) - before < 3;)
            sched_yield();
    return argument + 1;
}

/* Take an A-stack that nobody attends: there are as many as workers. */
static void attach(WorkerObject *self)
{
    Binding *binding = bindings;
    while (binding->astacks[0].linkage.worker)
        binding++;
    Py_NewRef(self->binding = binding);
    self->entries = &binding->entries;
    self->served = &binding->served;
    pthread_mutex_lock(&watch_lock);
    own_linkage(self)->worker = &self->worker;
    pthread_mutex_unlock(&watch_lock);
}

static void detach(WorkerObject *self)
{
    unlist(self);
    drop_from_busy();
    pthread_mutex_lock(&watch_lock);
    own_linkage(self)->worker = NULL;
    pthread_mutex_unlock(&watch_lock);
    stop_spinning(own_linkage(self));
    Py_DECREF(self->binding);
    self->binding = NULL;
}

static void dismiss(WorkerObject *self)
{
    atomic_store(&self->worker.leave, 1);
    raise_alarm(&self->worker.alarm);
}

/* As `answer_with`: whoever may spins, and others lend. Returns whether the worker spins; -1 where it
   has left. */
static int answer(WorkerObject *self)
{
    Linkage *linkage = own_linkage(self);
    Ends *ends = &self->binding->ends;
    int stay = !atomic_load(&self->worker.leave);
    check_held_up(self);
    atomic_store(&miss_budget, MISSES_SAVED);
    if (stay && !atomic_load(&spinners) && !linkage->spinning) {
        linkage->spinning = 1;
        linkage->misses = linkage->spun_calls = 0;
    }
    int spins = stay && server_spins(ends, linkage, 1);
    if (spins && !enlist(self)) {
        stop_spinning(linkage);
        spins = 0;
    }
    self->lends = stay && !spins && find_spinner(self);
    if (server_reply(ends, linkage, !stay ? 0 : spins || self->lends ? WORKER_AWAKE : WORKER_ASLEEP) != COMPLETED)
        abort();
    if (!stay)
        detach(self);
    return stay ? spins : -1;
}

/* As `next_call`, and the loop around it. */
static void *serve(void *object)
{
    WorkerObject *self = object;
    int spins = 0;
    pthread_mutex_lock(&interpreter);
    attach(self);
    for (uint32_t n = 1;; n++) {
        if (!self->binding) {
            atomic_store(&self->worker.leave, 0);
            if (atomic_load(&closes))
                break;
            Py_BEGIN_ALLOW_THREADS
            sched_yield();
            Py_END_ALLOW_THREADS
            attach(self);
            spins = 0;
        }
        if (!spins)
            unlist(self);
        if (self->lends)
            lend(self);
        self->lends = 0;
        await_own(self, n % 8 ? HOUR : 0);
        Binding *binding = self->binding;
        Linkage *linkage = own_linkage(self);
        Py_BEGIN_ALLOW_THREADS
        int got = server_await(&binding->ends, &self->worker, linkage, spins, HOUR);
        Py_END_ALLOW_THREADS
        if (got == STOPPED) {
            spins = 0;
            continue;
        }
        if (self->worker.took >= 0 && got != COMPLETED) {
            give_back(self, got == BROKEN);
            continue;
        }
        if (self->worker.took >= 0) {
            go_over(self);
            taken++;
        }
        drop_owned(&self->worker);
        binding = self->binding;
        if (got == LEFT) {
            detach(self);
            continue;
        }
        if (got != COMPLETED || self->entries != &binding->entries || self->served != &binding->served)
            abort();
        Py_BEGIN_ALLOW_THREADS
        binding->result = run(self, binding->argument);
        Py_END_ALLOW_THREADS
        spins = answer(self);
    }
    pthread_mutex_unlock(&interpreter);
    return NULL;
}

/* As `look_at_lent`, again and again. */
static void *watch(void *unused)
{
    while (!atomic_load(&over)) {
        pthread_mutex_lock(&watch_lock);
        for (uint32_t i = 0; i < atomic_load(&spinners); i++) {
            int found = recall_waiting(&listed[i]->worker);
            if (found && atomic_load(&own_linkage(listed[i])->busy))
                atomic_store(&listed[i]->worker.held_up, 1);
            atomic_fetch_add(&recalled, found);
        }
        pthread_mutex_unlock(&watch_lock);
        atomic_fetch_add(&rounds, 1);
        for (int i = 0; i < 16; i++)
            sched_yield();
    }
    return unused;
}

/* Make calls, and give some up; each result must be that of its own call. */
static void *make_calls(void *object)
{
    Binding *self = object;
    Ends *ends = &self->client_ends;
    for (long n = 1; n <= calls; n++) {
        self->argument = (uint32_t)n;
        if (n % 100 == 0)
            dismiss(&workers[n / 100 % STACKS]);
        if (client_start(ends, &self->client, n % 3 ? 0 : CLIENT_ASLEEP) != COMPLETED)
            abort();
        int64_t deadline = n % 20 ? FOREVER : now_ns() + n % 7 * MICROSECOND;
        int got = client_wait(ends, &self->client, deadline, n % 2);
        while (got == INTERRUPTED)
            got = client_wait(ends, &self->client, deadline, 0);
        uint32_t phase = got == COMPLETED ? DONE : got == EXPIRED ? client_abort(ends, &self->client) : 0;
        if (!phase || (phase == DONE && self->result != (uint32_t)n + 1))
            abort();
        atomic_fetch_add(&withdrawn, phase == CALLED);
        atomic_fetch_add(&aborted, phase == RUNNING);
        while (phase == RUNNING && PHASE(atomic_load(&self->control.word)) != DONE)
            sched_yield(); /* quarantined: wait until the server lets go */
    }
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t served[STACKS], called[STACKS], watcher;
    calls = count > 1 ? atol(arguments[1]) : 1000;
    kick = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < STACKS; i++) {
        Binding *one = &bindings[i];
        atomic_store(&one->control.word, WORD(0, IDLE));
        one->client_ends = one->ends = (Ends){.pins = 1, .door = -1, .notify = -1};
        one->client = (Linkage){.control = &one->control};
        one->astacks[0].linkage = (Linkage){.control = &one->control};
        workers[i] = (WorkerObject){{.last_cpu = -1, .took = -1}, .pending = &pending};
    }
    pthread_create(&watcher, NULL, watch, NULL);
    for (int i = 0; i < STACKS; i++) {
        pthread_create(&served[i], NULL, serve, &workers[i]);
        pthread_create(&called[i], NULL, make_calls, &bindings[i]);
    }
    for (int i = 0; i < STACKS; i++)
        pthread_join(called[i], NULL);
    atomic_store(&closes, 1);
    for (int i = 0; i < STACKS; i++)
        dismiss(&workers[i]);
    for (int i = 0; i < STACKS; i++)
        pthread_join(served[i], NULL);
    atomic_store(&over, 1);
    pthread_join(watcher, NULL);
    for (int i = 0; i < STACKS; i++)
        if (bindings[i].object.count)
            abort(); /* a reference too many, or one that was not had */
    printf("%ld calls, %ld taken for others, %ld recalled, %ld withdrawn, %ld aborted\n", STACKS * calls, taken,
           atomic_load(&recalled), atomic_load(&withdrawn), atomic_load(&aborted));
    return 0;
}
