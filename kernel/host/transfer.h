/* The transfer of a call between two processes, over one word of shared memory. No Python here.

   Each A-stack has a control block in the segment that client and server share. Its word holds the
   number and the phase of the call, and every transition of it is a compare-and-swap from the exact
   value that was seen, all of them sequentially consistent:

     IDLE or DONE (n)  --client-->  CALLED (n + 1)     the arguments lie on the A-stack
     CALLED (n)        --server-->  RUNNING (n)        a worker has the call, and may read them
     RUNNING (n)       --server-->  DONE (n)           the results lie on the A-stack
     CALLED (n)        --client-->  IDLE (n - 1)       withdrawn: no worker had it yet
     RUNNING (n)       --client-->  ABORTED (n)        the caller goes; the A-stack is quarantined
     ABORTED (n)       --server-->  DONE (n)           the server lets go of it

   The word also says how either side waits. The client's bits tell the server whether a return
   must wake somebody; the worker's bits tell the client whether a call must. A worker that stays
   marks DONE as asleep, which is not the same as collected: only the client knows the latter.

   Zero is no phase. Memory that a peer has punched out reads as zero, and ends the binding.

   What decides whose call it is stands in private memory: each side keeps the number that it
   expects in its own linkage record. A peer may write anything anywhere in the segment at any time.
   So lengths are read once, checked, and then used; processors and times are hints, which can only
   cost the time of the peer that wrote them.

   No wait depends on the shared word alone, since a peer can move its waiters to a word of its own
   (FUTEX_REQUEUE). Each sleep is also on a private word, which the watcher, a dismissal and the end
   of a binding change. */

#ifndef LRPC_TRANSFER_H
#define LRPC_TRANSFER_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { IDLE = 1, CALLED, RUNNING, DONE, ABORTED };

#define PHASE(word) ((word)&7u)
#define CLIENT_ASLEEP 8u    /* on the word: wake it when the call is done */
#define CLIENT_NOTIFIED 16u /* an event loop: send a message on its socket */
#define CLIENT_BITS 24u
#define WORKER_AWAKE 32u  /* watches the word */
#define WORKER_ASLEEP 64u /* on the word: wake it when there is a call */
#define WORKER_BITS 96u
#define NUMBER(word) ((word) >> 8)
#define WORD(number, bits) (((uint32_t)(number) << 8) | (bits))
#define NEXT(number) (((number) + 1) & 0xFFFFFFu)
#define PREVIOUS(number) (((number)-1) & 0xFFFFFFu)

/* How a wait ended. */
enum { COMPLETED, ENDED, EXPIRED, INTERRUPTED, BROKEN, LEFT, CUT, STOPPED };

enum { ADAPTIVE, ALWAYS_SLEEP, ALWAYS_SPIN };

/* Who may take the calls of an A-stack: lending.h says more. */
enum { OWN, LENT, TAKEN };

#define MICROSECOND 1000LL
#define MILLISECOND 1000000LL
#define SECOND 1000000000LL
#define FOREVER INT64_MAX
#define SPIN_NS (50 * MICROSECOND)        /* the longest spin of one wait */
#define SPIN_FORCED_NS (2 * MILLISECOND)  /* likewise, where a binding asks to spin always */
#define QUICK_NS (40 * MICROSECOND)       /* a gap between calls that spinning would have covered */
#define SOON_NS (80 * MICROSECOND)        /* a call that slept, whose reply a spin may have met */
#define QUICK_CALLS 16                    /* as many in a row before a worker begins to spin */
#define LONG_NS QUICK_NS                  /* a procedure that others would not wait for */
#define SPUN_CALLS 1000                   /* that were met: spinning has paid, whatever came then */
#define SPIN_TURN_NS (10 * MILLISECOND)   /* after which a worker that spins gives way to one that would */
/* Spins that miss take at most a tenth of a processor over any second: what was saved up, as much
   again that comes at once after a pause, and what comes in a second. */
#define MISSES_SAVED (10 * MILLISECOND)
#define MISSES_PERCENT 8
#define TRIAL_CALLS 32   /* that try whether pinning pays, or does not, */
#define TRIAL_SOON 64    /* after so many, twice as many each time that it comes out the same, */
#define TRIAL_EVERY 1024 /* and so many at most */
#define SLOW_WAKE_NS (500 * MICROSECOND)  /* a wake on the caller's processor that did not pay */
#define MOST_LENT 64 /* A-stacks that one worker watches beside its own */
#define MOVES_A_SECOND 100
#define WAKES_A_SECOND 1000 /* without a call, before the binding is ended */
#define TRIES 10000         /* of a compare-and-swap, before the peer is called hostile */

/* Where arguments or results lie. Short ones travel in the control block: in the cache lines that
   change hands anyway. */
enum { ON_ASTACK, OUT_OF_BAND, INLINE };
#define INLINE_ARGUMENTS 32
#define INLINE_RESULTS 40

/* In the segment: one for each A-stack, a cache line that the client fills and one that the server
   fills. */
typedef struct {
    _Atomic uint32_t word;
    _Atomic uint32_t procedure;
    _Atomic uint32_t length; /* of the arguments, in bytes */
    _Atomic uint32_t place;
    _Atomic uint32_t client_cpu; /* a hint */
    _Atomic uint32_t took_ns;    /* a hint: the client's last call that slept, from here to there and back */
    _Atomic uint64_t called_at;  /* a hint: nanoseconds of the monotonic clock */
    uint8_t arguments[INLINE_ARGUMENTS];
    _Atomic uint32_t kind; /* of the reply */
    _Atomic uint32_t result_length;
    _Atomic uint32_t result_place;
    _Atomic uint32_t server_cpu; /* a hint */
    _Atomic uint32_t spins;      /* a hint: the worker watches the word between calls */
    _Atomic uint32_t unused;
    uint8_t results[INLINE_RESULTS];
} Control;

_Static_assert(sizeof(Control) == 128, "the layout of a control block is the same on both sides");

struct Worker;

/* In private memory: what one side knows of an A-stack. */
typedef struct {
    Control *control;
    uint32_t number; /* of the last call that was made (client) or taken (server) */
    /* The client's. */
    int watched;                       /* whether the worker did, at the last call */
    uint32_t skip[2], skipped_last[2]; /* calls yet to be made without spinning, by that */
    uint32_t usual_ns;                 /* what calls take on average for which not both sides watched */
    /* The server's. */
    struct Worker *worker; /* who attends */
    _Atomic int holder;    /* who may take its calls: OWN and so on */
    int wants_back;        /* its worker, once the spinner has gone over */
    int wants;             /* it would spin, if others did not */
    int lends;             /* its calls may be watched for by another that spins */
    _Atomic int busy;      /* a call has been taken, and not answered */
    int spinning;          /* the mode: spin between calls, or hand the processor over */
    uint32_t misses, spun_calls; /* while it spins: those in a row, and calls */
    int64_t spin_since, taken_at, done_at;
    int64_t ran_ns;         /* what the last procedure took, where its worker did not spin */
    int64_t again_at;       /* neither spin nor lend before */
    int pins;             /* whether the worker goes to its caller's processor to sleep */
    int was_pinned;       /* whether it had, when it took the call before this one */
    uint32_t took_ns[2];  /* calls that slept, on average, by that */
    int trying, paid;     /* the other way is being tried; whether pinning paid at the last trial */
    uint32_t trial;       /* calls until that begins, or is over */
    uint32_t between;     /* calls between two trials */
} Linkage;

typedef struct {
    _Atomic int ended;      /* why; 0 while the binding lives */
    _Atomic uint32_t alarm; /* the private word of the client's waits */
    int waits;              /* ADAPTIVE, ALWAYS_SLEEP or ALWAYS_SPIN */
    int pins;               /* whether workers may go to, or off, the processor that the client names */
    int door, notify;       /* sockets: -1 where there is none */
    int64_t wakes_since;
    uint32_t wakes;
    /* Counters: approximate where several threads count. */
    uint64_t calls, spun, lent, slept, bells, aborted;
} Ends;

/* An A-stack that a spinning worker watches for another. */
typedef struct {
    Linkage *linkage;
    void *binding; /* a reference, to the one whose A-stack it is */
    uint32_t seen; /* the word that the watcher saw last, if there was a call */
} Lent;

typedef struct Worker {
    _Atomic uint32_t alarm; /* the private word of its waits */
    _Atomic int leave;
    int lingers; /* it keeps its A-stack after idling, where a caller wants to do something first */
    int pinned;
    cpu_set_t mask; /* to be restored before a procedure runs */
    int last_cpu;
    uint32_t moves;
    int64_t moves_since, no_pin_until, no_pin_ns;
    uint32_t quick_wakes;
    int64_t since; /* when it last answered a call, or was given an A-stack */
    int listed;    /* others may lend it their A-stacks */
    int took;      /* the lent one whose call it has taken; -1 for none */
    _Atomic int held_up; /* a procedure took so long that others did not wait for it */
    uint32_t next_lent;
    _Atomic uint32_t lent_count;
    Lent lent[MOST_LENT];
} Worker;

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield" ::: "memory");
#endif
}

/* --- sleeping ------------------------------------------------------------------------------- */

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

typedef struct {
    uint64_t val, uaddr;
    uint32_t flags, reserved;
} Waiter;

static _Atomic int waitv_missing; /* the kernel lacks futex_waitv, or a filter forbids it */

static inline void futex_wake(_Atomic uint32_t *word, int count, int shared)
{
    syscall(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static inline void raise_alarm(_Atomic uint32_t *alarm)
{
    atomic_fetch_add(alarm, 1);
    futex_wake(alarm, INT_MAX, 0);
}

/* Sleep until `word` or `alarm` is no longer as it was seen, or something wakes us for nothing.
   Where futex_waitv is missing, look at the alarm again after at most 50 ms. Returns COMPLETED when
   woken, CUT where it did not sleep or not to the end, INTERRUPTED after a signal, EXPIRED at the
   deadline. */
static int sleep_on(_Atomic uint32_t *word, uint32_t seen, _Atomic uint32_t *alarm, uint32_t alarm_seen,
                    int64_t deadline)
{
    deadline = deadline < 0 ? 0 : deadline;
    struct timespec until = {deadline / SECOND, deadline % SECOND};
    long result;
    if (!atomic_load_explicit(&waitv_missing, memory_order_relaxed)) {
        Waiter waiters[2] = {{seen, (uintptr_t)word, 2 /* 32 bits, shared */, 0},
                             {alarm_seen, (uintptr_t)alarm, 2 | FUTEX_PRIVATE_FLAG, 0}};
        result = syscall(SYS_futex_waitv, waiters, 2, 0, deadline == FOREVER ? NULL : &until, CLOCK_MONOTONIC);
        if (result >= 0)
            return COMPLETED;
        if (errno == EAGAIN)
            return CUT;
        if (errno == EINTR)
            return INTERRUPTED;
        if (errno == ETIMEDOUT)
            return EXPIRED;
        if (errno != ENOSYS && errno != EPERM && errno != EACCES) /* a peer may have made the word unreadable */
            return CUT;
        atomic_store(&waitv_missing, 1);
    }
    int64_t soon = now_ns() + 50 * MILLISECOND;
    int cut = soon < deadline;
    if (cut)
        until = (struct timespec){soon / SECOND, soon % SECOND};
    if (atomic_load(alarm) != alarm_seen)
        return CUT;
    result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    if (result >= 0)
        return COMPLETED;
    if (errno == EAGAIN)
        return CUT;
    if (errno == EINTR)
        return INTERRUPTED;
    return cut ? CUT : EXPIRED;
}

/* Sleep until the alarm is no longer as it was seen, or the deadline. Returns as `sleep_on`. */
static int sleep_on_alarm(_Atomic uint32_t *alarm, uint32_t seen, int64_t deadline)
{
    struct timespec until = {deadline / SECOND, deadline % SECOND};
    if (syscall(SYS_futex, alarm, FUTEX_WAIT_BITSET_PRIVATE, seen, &until, NULL, FUTEX_BITSET_MATCH_ANY) >= 0)
        return COMPLETED;
    return errno == ETIMEDOUT ? EXPIRED : errno == EINTR ? INTERRUPTED : CUT;
}

/* --- spinning ------------------------------------------------------------------------------- */

/* What spins that miss may still take, in the whole process. */
static _Atomic int64_t miss_budget, miss_budget_at;
static _Atomic uint32_t spinners, spinners_most = 1; /* workers that spin; 0 allowed: spinning does not pay here */
static _Atomic int64_t wanted_at;               /* when a worker last would have spun, and had no turn */
/* Whether spinning would pay is learned from all calls of the process, since one worker spins for all. */
static _Atomic uint32_t quick_calls;            /* in a row */
static _Atomic int64_t last_done;               /* when a worker that does not spin last had replied */
static _Atomic int64_t spin_again_at, back_off_ns;

/* Return whether the budget has room for a spin that misses. */
static int may_spin(void)
{
    if (atomic_load_explicit(&miss_budget, memory_order_relaxed) >= SPIN_NS)
        return 1;
    int64_t now = now_ns(), at = atomic_load_explicit(&miss_budget_at, memory_order_relaxed);
    if (now - at > MILLISECOND && atomic_compare_exchange_strong(&miss_budget_at, &at, now)) {
        int64_t more = (now - at) / 100 * MISSES_PERCENT;
        more = more < MISSES_SAVED ? more : MISSES_SAVED;
        int64_t surplus = atomic_fetch_add(&miss_budget, more) + more - MISSES_SAVED;
        if (surplus > 0)
            atomic_fetch_sub(&miss_budget, surplus);
    }
    return atomic_load_explicit(&miss_budget, memory_order_relaxed) >= SPIN_NS;
}

/* Take a spin's time off the budget, as if it had missed; return whether there was room. */
static int reserve_spin(void)
{
    if (!may_spin())
        return 0;
    if (atomic_fetch_sub(&miss_budget, SPIN_NS) >= SPIN_NS)
        return 1;
    atomic_fetch_add(&miss_budget, SPIN_NS); /* others were faster */
    return 0;
}

/* Give back what a spin has not missed of its time. */
static void settle_spin(int64_t missed) { atomic_fetch_add(&miss_budget, SPIN_NS - missed); }

#include "lending.h"

/* Watch the word until its phase leaves the two given, or what is lent to the worker that watches has a
   call (returns 0); or it was watched for `most_ns`, the deadline has passed, or something is raised
   (returns how long it was watched). The clock is read only once the first moments have passed. */
static int64_t spin(_Atomic uint32_t *word, uint32_t phase, uint32_t other, const _Atomic int *ended,
                    const Worker *worker, int64_t most_ns, int64_t deadline)
{
    for (int64_t start = 0, now;;) {
        for (int i = 0; i < 64; i++) {
            uint32_t seen = PHASE(atomic_load_explicit(word, memory_order_relaxed));
            if ((seen != phase && seen != other) || (worker && find_lent(worker) >= 0))
                return 0;
            relax();
        }
        now = now_ns();
        if (!start)
            start = now;
        if (now - start >= most_ns || now >= deadline || atomic_load_explicit(ended, memory_order_relaxed)
            || (worker && atomic_load_explicit(&worker->leave, memory_order_relaxed)))
            return now - start + 1;
    }
}

/* Return whether those who wait in a binding were woken too often for nothing. */
static int woken_too_often(Ends *ends)
{
    int64_t now = now_ns();
    if (now - ends->wakes_since > SECOND) {
        ends->wakes_since = now;
        ends->wakes = 0;
    }
    return ++ends->wakes > WAKES_A_SECOND;
}

/* --- the client's side ------------------------------------------------------------------------ */

/* Publish the call whose arguments lie on the A-stack. Returns COMPLETED or BROKEN. */
static int client_start(Ends *ends, Linkage *linkage, uint32_t client_bits)
{
    Control *control = linkage->control;
    uint32_t old = atomic_load(&control->word), number = NEXT(linkage->number);
    atomic_store_explicit(&control->client_cpu, (uint32_t)sched_getcpu(), memory_order_relaxed);
    for (int tries = 0;; tries++) {
        if ((PHASE(old) != IDLE && PHASE(old) != DONE) || NUMBER(old) != linkage->number || tries == TRIES)
            return BROKEN;
        if (atomic_compare_exchange_strong(&control->word, &old, WORD(number, CALLED | client_bits | (old & WORKER_BITS))))
            break;
    }
    linkage->number = number;
    ends->calls++;
    if (old & WORKER_ASLEEP)
        futex_wake(&control->word, 1, 1);
    else if (!(old & WORKER_AWAKE)) {
        ends->bells++; /* where the socket is full, the bell rings already */
        send(ends->door, "b", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return COMPLETED;
}

/* Learn from a call for which not both sides watched, and tell the server what it took. */
static void learn_took(Linkage *linkage, int64_t took_ns)
{
    uint32_t took = (uint32_t)(took_ns < SECOND ? took_ns : SECOND), usual = linkage->usual_ns;
    linkage->usual_ns = usual ? (uint32_t)(((uint64_t)usual * 7 + took) / 8) : took;
    atomic_store_explicit(&linkage->control->took_ns, took, memory_order_relaxed);
}

/* Return whether the caller should watch the word for its reply rather than sleep at once: where the
   worker watches for the call, or runs elsewhere and is done so soon that to be woken would be much
   of the call. */
static int client_spins(const Ends *ends, Linkage *linkage)
{
    if (ends->waits == ALWAYS_SLEEP)
        return 0;
    Control *control = linkage->control;
    if (atomic_load_explicit(&control->server_cpu, memory_order_relaxed) == (uint32_t)sched_getcpu())
        return 0;
    if (ends->waits == ALWAYS_SPIN)
        return 1;
    int watched = linkage->watched = atomic_load_explicit(&control->spins, memory_order_relaxed) != 0;
    if (linkage->skip[watched]) {
        linkage->skip[watched]--;
        return 0;
    }
    return (watched || linkage->usual_ns < SOON_NS) && atomic_load(&spinners_most) > 0 && may_spin();
}

/* Wait until the call is done. `spins` is whether to watch the word first. */
static int client_wait(Ends *ends, Linkage *linkage, int64_t deadline, int spins)
{
    _Atomic uint32_t *word = &linkage->control->word;
    int64_t look = 0;
    for (int looks = 0;; looks++) {
        uint32_t alarm = atomic_load(&ends->alarm);
        uint32_t now = atomic_load(word);
        if (NUMBER(now) != linkage->number || looks == TRIES) /* an honest server changes it a few times */
            return BROKEN;
        if (PHASE(now) == DONE)
            return COMPLETED;
        if (PHASE(now) != CALLED && PHASE(now) != RUNNING)
            return BROKEN;
        if (atomic_load(&ends->ended))
            return ENDED;
        if (spins && ends->waits == ADAPTIVE)
            spins = reserve_spin();
        if (spins) {
            /* A worker that has to wake may need this very processor: do not keep it for long. */
            int64_t most = ends->waits == ALWAYS_SPIN && !(now & WORKER_ASLEEP) ? SPIN_FORCED_NS : SPIN_NS;
            int64_t missed = spin(word, CALLED, RUNNING, &ends->ended, NULL, most, deadline);
            if (ends->waits == ADAPTIVE)
                settle_spin(missed);
            spins = 0;
            if (!missed) {
                linkage->skipped_last[linkage->watched] = 0;
                ends->spun++;
            } else { /* the next few calls sleep at once: twice as many after each miss */
                uint32_t *skipped = &linkage->skipped_last[linkage->watched];
                *skipped = *skipped >= 512 ? 1024 : *skipped ? *skipped * 2 : 1;
                linkage->skip[linkage->watched] = *skipped;
                return INTERRUPTED; /* a signal may have come meanwhile, which nothing would tell later */
            }
            continue;
        }
        if (!(now & CLIENT_ASLEEP)) {
            uint32_t asleep = now | CLIENT_ASLEEP;
            if (!atomic_compare_exchange_strong(word, &now, asleep))
                continue;
            now = asleep;
        }
        /* Once a second the caller looks for signals: one may come just before the sleep begins, or to
           a thread that does not sleep. Where sleeps are cut, it may take many. */
        if (!look)
            look = now_ns() + SECOND;
        int woken = sleep_on(word, now, &ends->alarm, alarm, look < deadline ? look : deadline);
        ends->slept += woken != CUT;
        if (PHASE(atomic_load(word)) == DONE)
            continue;
        if (woken == CUT || woken == EXPIRED) {
            int64_t later = now_ns();
            if (later >= deadline)
                return EXPIRED;
            if (later >= look)
                return INTERRUPTED;
            continue;
        }
        if (woken != COMPLETED)
            return woken;
        if (woken_too_often(ends))
            return BROKEN;
        if ((ends->wakes & 63) == 63)
            return INTERRUPTED;
    }
}

/* Release the caller from its call. Returns the phase that the word had: CALLED (withdrawn),
   RUNNING (quarantined until the server lets go), DONE (too late: there are results), or 0 where
   the peer has spoilt it. */
static uint32_t client_abort(Ends *ends, Linkage *linkage)
{
    _Atomic uint32_t *word = &linkage->control->word;
    uint32_t old = atomic_load(word);
    for (int tries = 0; tries < TRIES; tries++) {
        if (NUMBER(old) != linkage->number)
            return 0;
        if (PHASE(old) == DONE)
            return DONE;
        if (PHASE(old) == CALLED) {
            uint32_t before = PREVIOUS(linkage->number);
            if (atomic_compare_exchange_strong(word, &old, WORD(before, IDLE | (old & WORKER_BITS)))) {
                linkage->number = before;
                ends->aborted++;
                return CALLED;
            }
        } else if (PHASE(old) == RUNNING) {
            if (atomic_compare_exchange_strong(word, &old, WORD(linkage->number, ABORTED | (old & CLIENT_NOTIFIED)))) {
                ends->aborted++;
                return RUNNING;
            }
        } else
            return 0;
    }
    return 0;
}

/* --- the server's side ------------------------------------------------------------------------ */

/* Take the call that the client has published. Returns COMPLETED; LEFT where there is none; BROKEN
   where the word is not one that a client leaves. */
static int server_take(Linkage *linkage)
{
    _Atomic uint32_t *word = &linkage->control->word;
    uint32_t old = atomic_load(word);
    for (int tries = 0; tries < TRIES; tries++) {
        if (PHASE(old) == IDLE || PHASE(old) == DONE)
            return NUMBER(old) == linkage->number ? LEFT : BROKEN;
        if (PHASE(old) != CALLED || NUMBER(old) != NEXT(linkage->number))
            return BROKEN;
        if (atomic_compare_exchange_strong(word, &old, WORD(NUMBER(old), RUNNING | (old & CLIENT_BITS)))) {
            linkage->number = NEXT(linkage->number);
            atomic_store_explicit(&linkage->busy, 1, memory_order_release); /* a spinner looks at nothing lent from now on */
            return COMPLETED;
        }
    }
    return BROKEN;
}

/* Publish the results that lie on the A-stack, and wake whoever waits for them. `worker_bits` says
   how the worker goes on. Returns COMPLETED or BROKEN. */
static int server_reply(Ends *ends, Linkage *linkage, uint32_t worker_bits)
{
    _Atomic uint32_t *word = &linkage->control->word;
    uint32_t old = atomic_load(word);
    atomic_store_explicit(&linkage->busy, 0, memory_order_relaxed);
    atomic_store_explicit(&linkage->control->server_cpu, (uint32_t)sched_getcpu(), memory_order_relaxed);
    for (int tries = 0; tries < TRIES; tries++) {
        if (NUMBER(old) != linkage->number || (PHASE(old) != RUNNING && PHASE(old) != ABORTED))
            return BROKEN;
        if (!atomic_compare_exchange_strong(word, &old, WORD(linkage->number, DONE | worker_bits)))
            continue;
        if (PHASE(old) == ABORTED)
            ends->aborted++;
        if (old & CLIENT_ASLEEP)
            futex_wake(word, 1, 1);
        if (old & CLIENT_NOTIFIED)
            send(ends->notify, "n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        return COMPLETED;
    }
    return BROKEN;
}

/* Narrow the worker's affinity to its caller's processor, for the time that it sleeps: the wake
   then hands that processor over, and none that idles has to be woken. The processor is a hint from
   untrusted memory: it must be in the worker's own mask, and moves are counted. */
static void pin(Worker *worker, const Linkage *linkage, int64_t now)
{
    uint32_t cpu = atomic_load_explicit(&linkage->control->client_cpu, memory_order_relaxed);
    if (cpu >= CPU_SETSIZE || now < worker->no_pin_until)
        return;
    if ((int)cpu != worker->last_cpu) {
        if (now - worker->moves_since > SECOND) {
            worker->moves_since = now;
            worker->moves = 0;
        }
        if (++worker->moves > MOVES_A_SECOND)
            return;
    }
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof worker->mask, &worker->mask) || !CPU_ISSET(cpu, &worker->mask))
        return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    worker->pinned = !sched_setaffinity(0, sizeof one, &one);
    worker->last_cpu = (int)cpu;
}

/* Give the worker its affinity back, unless somebody has set another one while it was pinned. */
static void unpin(Worker *worker)
{
    cpu_set_t now;
    if (worker->pinned && !sched_getaffinity(0, sizeof now, &now) && CPU_COUNT(&now) == 1 && CPU_ISSET(worker->last_cpu, &now))
        sched_setaffinity(0, sizeof worker->mask, &worker->mask);
    worker->pinned = 0;
}

/* Move off the caller's processor, to spin on another one. Returns whether there is another. */
static int move_away(const Ends *ends, const Linkage *linkage)
{
    uint32_t cpu = atomic_load_explicit(&linkage->control->client_cpu, memory_order_relaxed);
    cpu_set_t mask, others;
    if (cpu >= CPU_SETSIZE || sched_getcpu() != (int)cpu)
        return 1;
    if (!ends->pins || sched_getaffinity(0, sizeof mask, &mask))
        return 0;
    others = mask;
    CPU_CLR(cpu, &others);
    if (!CPU_COUNT(&others) || sched_setaffinity(0, sizeof others, &others))
        return 0;
    sched_setaffinity(0, sizeof mask, &mask);
    return 1;
}

/* Learn whether it pays to go to the caller's processor: by what the client says that its calls
   took, with and without. Where another processor idles, the scheduler moves a client there when its
   reply wakes it, and to follow it at each call costs more than to stay. The client could say
   anything, at its own cost. */
static void learn_place(Linkage *linkage, int slept, int pinned)
{
    uint32_t took = atomic_load_explicit(&linkage->control->took_ns, memory_order_relaxed);
    uint32_t *average = &linkage->took_ns[linkage->was_pinned != 0];
    if (took > MILLISECOND)
        took = MILLISECOND;
    *average = *average ? (uint32_t)(((uint64_t)*average * 15 + took) / 16) : took;
    linkage->was_pinned = pinned;
    if (!slept)
        return;
    if (linkage->trial) {
        linkage->trial--;
        return;
    }
    if (!linkage->between) { /* the first calls are without: the first of all says little of those that follow */
        linkage->between = TRIAL_SOON;
        linkage->trial = TRIAL_CALLS;
        return;
    }
    linkage->trying = !linkage->trying;
    linkage->trial = TRIAL_CALLS;
    linkage->pins = !linkage->pins;
    if (linkage->trying)
        return;
    int pays = linkage->took_ns[1] && linkage->took_ns[1] < linkage->took_ns[0]; /* 0: it could not be tried */
    linkage->between = pays != linkage->paid ? TRIAL_SOON : linkage->between < TRIAL_EVERY ? linkage->between * 2 : TRIAL_EVERY;
    linkage->pins = linkage->paid = pays;
    linkage->trial = linkage->between;
}

/* Learn from the time between the last reply and this call, at which spinning might begin. A worker
   that watches need not be woken: that time is left out, by what the client says of when it called.
   It could say anything; spins that miss have a budget. */
static void learn_gap(Ends *ends, Worker *worker, Linkage *linkage, int slept, int was_pinned)
{
    int64_t now = now_ns(), gap = now - atomic_load_explicit(&last_done, memory_order_relaxed);
    int64_t wake = now - (int64_t)atomic_load_explicit(&linkage->control->called_at, memory_order_relaxed);
    if (slept && wake > 0 && wake < gap)
        gap -= wake;
    learn_place(linkage, slept, was_pinned);
    if (slept && was_pinned) {
        if (wake > SLOW_WAKE_NS) { /* somebody else has that processor: leave it to the scheduler for a while */
            worker->no_pin_ns = worker->no_pin_ns ? worker->no_pin_ns * 2 : MILLISECOND;
            if (worker->no_pin_ns > SECOND)
                worker->no_pin_ns = SECOND;
            worker->no_pin_until = now + worker->no_pin_ns;
            worker->quick_wakes = 0;
        } else if (++worker->quick_wakes > 100)
            worker->no_pin_ns = 0;
    }
    linkage->taken_at = now;
    uint32_t quick = gap < QUICK_NS ? atomic_fetch_add(&quick_calls, 1) + 1 : 0;
    if (!quick)
        atomic_store_explicit(&quick_calls, 0, memory_order_relaxed);
    linkage->lends = 0;
    if (ends->waits != ADAPTIVE || linkage->spinning || now < linkage->again_at)
        return;
    linkage->lends = linkage->ran_ns < LONG_NS;
    if (quick < QUICK_CALLS || now < atomic_load(&spin_again_at) || !may_spin())
        return;
    if (atomic_load(&spinners) >= atomic_load(&spinners_most)) {
        linkage->wants = 1;
        return;
    }
    linkage->spinning = move_away(ends, linkage);
    linkage->misses = linkage->spun_calls = 0;
    linkage->spin_since = now;
}

static void stop_spinning(Linkage *linkage)
{
    if (!linkage->spinning)
        return;
    linkage->spinning = 0;
    atomic_store(&quick_calls, 0);
}

/* Note that a worker that does not spin has answered a call. */
static void note_done(Worker *worker, Linkage *linkage)
{
    linkage->done_at = worker->since = now_ns();
    linkage->ran_ns = linkage->taken_at ? linkage->done_at - linkage->taken_at : 0;
    linkage->taken_at = 0;
    atomic_store_explicit(&last_done, linkage->done_at, memory_order_relaxed);
}

/* Return whether the worker should watch the word for the next call. */
static int server_spins(Ends *ends, Linkage *linkage, int has_lent)
{
    if (ends->waits == ALWAYS_SLEEP)
        return 0;
    if (ends->waits == ALWAYS_SPIN)
        return move_away(ends, linkage);
    if (!linkage->spinning)
        return 0;
    uint32_t cpu = atomic_load_explicit(&linkage->control->client_cpu, memory_order_relaxed);
    int stays = (has_lent || cpu != (uint32_t)sched_getcpu()) && may_spin();
    if (stays && (++linkage->spun_calls & 255) == 0) { /* others want its turn */
        int64_t now = now_ns();
        if (now - linkage->spin_since > SPIN_TURN_NS && atomic_load(&wanted_at) > linkage->spin_since) {
            linkage->again_at = now + SPIN_TURN_NS;
            stays = 0;
        }
    }
    if (!stays)
        stop_spinning(linkage);
    return stays;
}

/* Hand the processor over again, for twice as long as the last time unless spinning paid in between. */
static void back_off(Linkage *linkage)
{
    int64_t last = linkage->spun_calls < SPUN_CALLS ? atomic_load(&back_off_ns) * 2 : 0;
    last = last < MILLISECOND ? MILLISECOND : last < SECOND ? last : SECOND;
    atomic_store(&back_off_ns, last);
    atomic_store(&spin_again_at, now_ns() + last);
    stop_spinning(linkage);
}

/* A spin has missed: two in a row do not pay. */
static void spin_missed(Ends *ends, Linkage *linkage)
{
    if (ends->waits == ADAPTIVE && ++linkage->misses >= 2)
        back_off(linkage);
}

/* Stay with the A-stack until it has a call, and take it. Returns COMPLETED with a call. Where `took` says
   so, it is of an A-stack that was lent, and what is returned is as of `server_take`. Returns LEFT where
   the worker was dismissed or has idled for `idle_ns` (EXPIRED where it lingers), ENDED or BROKEN; STOPPED
   where it is about to sleep, and others rely on it. */
static int server_await(Ends *ends, Worker *worker, Linkage *linkage, int spins, int64_t idle_ns)
{
    Control *control = linkage->control;
    _Atomic uint32_t *word = &control->word;
    int64_t idle_until = 0;
    int slept = 0, was_pinned = 0, spun = 0;
    for (;;) {
        uint32_t alarm = atomic_load(&worker->alarm);
        uint32_t now = atomic_load(word);
        int lent = spins ? find_lent(worker) : -1;
        if (lent >= 0) { /* before a call of its own, since it has just been here for one */
            int taken = take_lent(worker, lent);
            if (worker->took >= 0)
                return taken;
        }
        if (PHASE(now) == CALLED) {
            int taken = server_take(linkage);
            if (taken == LEFT)
                continue; /* withdrawn in between */
            unpin(worker);
            if (taken == COMPLETED && !spun && !worker->listed)
                learn_gap(ends, worker, linkage, slept, was_pinned);
            return taken;
        }
        if ((PHASE(now) != IDLE && PHASE(now) != DONE) || NUMBER(now) != linkage->number) {
            unpin(worker);
            return BROKEN;
        }
        if (atomic_load(&ends->ended)) {
            unpin(worker);
            return ENDED;
        }
        if (worker->lingers && !atomic_load(&worker->leave) && slept && now_ns() >= idle_until) {
            unpin(worker);
            return EXPIRED; /* it comes back, and looks at the word before it sleeps */
        }
        if (atomic_load(&worker->leave) || (slept && now_ns() >= idle_until)) {
            if (!atomic_compare_exchange_strong(word, &now, now & ~WORKER_BITS))
                continue;
            unpin(worker);
            return LEFT;
        }
        if (spins) {
            spins = 0;
            if (!(now & WORKER_AWAKE)) {
                if (!atomic_compare_exchange_strong(word, &now, (now & ~WORKER_BITS) | WORKER_AWAKE))
                    continue;
            }
            if (ends->waits == ADAPTIVE && !reserve_spin()) {
                stop_spinning(linkage);
                continue;
            }
            int64_t most = ends->waits == ALWAYS_SPIN ? SPIN_FORCED_NS : SPIN_NS;
            int64_t missed = spin(word, DONE, IDLE, &ends->ended, worker, most, FOREVER);
            if (ends->waits == ADAPTIVE)
                settle_spin(missed);
            if (!missed && PHASE(atomic_load(word)) != CALLED) {
                spins = 1; /* something else has a call */
                continue;
            }
            if (!missed) {
                ends->spun++;
                linkage->misses = 0;
                spun = 1;
                linkage->taken_at = 0;
                continue;
            }
            spin_missed(ends, linkage);
            spins = worker->listed && linkage->spinning && atomic_load(&worker->lent_count);
            continue;
        }
        if (worker->listed)
            return STOPPED;
        if (!idle_until) {
            note_done(worker, linkage);
            idle_until = worker->since + idle_ns;
        }
        if (!(now & WORKER_ASLEEP)) {
            uint32_t asleep = (now & ~WORKER_BITS) | WORKER_ASLEEP;
            if (!atomic_compare_exchange_strong(word, &now, asleep))
                continue;
            now = asleep;
            atomic_store_explicit(&control->spins, linkage->spinning || ends->waits == ALWAYS_SPIN, memory_order_relaxed);
        }
        if (!was_pinned && ends->pins && linkage->pins && ends->waits != ALWAYS_SPIN) {
            pin(worker, linkage, linkage->done_at);
            was_pinned = worker->pinned;
        }
        int woken = sleep_on(word, now, &worker->alarm, alarm, idle_until);
        ends->slept += woken != CUT;
        slept = 1;
        if (woken == COMPLETED && PHASE(atomic_load(word)) != CALLED && !atomic_load(&worker->leave) && woken_too_often(ends)) {
            unpin(worker);
            return BROKEN;
        }
    }
}

#endif
