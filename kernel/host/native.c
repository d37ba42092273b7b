/* The part of the host kernel that Python cannot be: atomic words, waiting without the interpreter
   lock, and a watcher that needs no interpreter at all. The transfer itself is in transfer.h.

   Everything here that is not atomic is read and written under the interpreter lock, unless the
   A-stack that it belongs to is held by the running call. */

#define _GNU_SOURCE
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "transfer.h"

#define MOST_SPINNERS 64
#define COLLECT 0xFFFFFFFFu  /* the procedure number that asks for results that found no room */
#define MOST_QUARANTINED 64
#define MOST_BYTES (1u << 30)

/* Kinds of replies: Python's part adds its own from 2 on, and knows the third. */
enum { RESULTS = 0, NO_ROOM = 1, NO_SUCH_PROCEDURE = 4, NOT_KEPT = 0xFFFF };
/* What `call` and `collect` return in place of results. */
enum { CALL_ENDED = -1, CALL_ABORTED = -2, CALL_WITHDRAWN = -3, CALL_BROKEN = -4, CALL_QUARANTINED = -5, CALL_PENDING = -6, CALL_UNTAKEN = -7, CALL_NOT_KEPT = -8 };
/* Whether a worker watches, and why not. */
enum { WATCHES, AS_ASKED, NOTHING_TO_SPARE, NO_CALLS, BUDGET, BACKS_OFF, OTHERS_WATCH, FAR_APART };
/* Why a binding ended. */
enum { PEER_ENDED = 1, PEER_BROKEN, FORKED, CLOSED, PEER_HOLDS };

typedef struct {
    Linkage linkage;
    uint8_t *room; /* the A-stack, in the shared segment */
    size_t size;
    uint8_t *region; /* its out-of-band segment, if it has one */
    size_t region_size;
    int64_t region_used; /* when */
    uint32_t group;
    int32_t next;       /* on the client: the next of the LIFO queue */
    int64_t aborted_at; /* on the client: when it was quarantined, 0 where it is not */
    PyObject *kept;     /* on the server: results that await a region */
    int kept_kind;
    int64_t kept_at; /* since when */
} AStack;

typedef struct Binding {
    PyObject_HEAD
    Ends ends;
    uint64_t id, generation;
    uint8_t *base;
    size_t size;
    uint32_t count, groups, quarantined;
    int32_t *free; /* heads of the LIFO queues, one a group */
    AStack *astacks;
    _Atomic uint32_t *freed; /* by group: changes when an A-stack comes back that somebody waits for */
    uint32_t *waiting;       /* by group */
    int64_t owner, kept_bytes; /* on the server: who is at the other end, and what is kept for it */
    int pidfd, watched;
    struct Binding *older;
} Binding;

typedef struct WorkerObject {
    PyObject_HEAD
    Worker worker;
    Binding *binding;
    uint32_t index;
    PyObject *served, *left; /* what Python has for that binding; and for the one that it left last */
    int spins, lends; /* between the last answer and the next call */
    /* While it runs the procedures of calls: those, what tells of their exceptions, and who waits for a
       worker; how long it idles; and from how many bytes on Python answers with results that find no room. */
    PyObject *entries, *on_error, *pending;
    int64_t idle_ns;
    Py_ssize_t large;
    /* The stub that takes them, where it is one of native messages; the number of the head, from 1 on,
       behind which the call's message was read; and the head of its results, of the stub. */
    PyObject *stub, *head;
    int behind;
} WorkerObject;

static uint64_t generation = 1, last_id;
/* What is kept for clients at most, in all and for one of them; and who is told that something is. */
static int64_t most_kept, most_kept_for_one;
static PyObject *on_kept;
static int64_t most_held_ns = 30 * SECOND; /* for which a server holds the A-stack of a call that was aborted */
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static Binding *watched;
static int epoll = -1, kick = -1;
/* Those that spin, as many as there are `spinners`: changed under both locks, as what they are lent. */
static WorkerObject *listed[MOST_SPINNERS];
static int ticking; /* the watcher looks at what is lent, each millisecond */

/* --- the watcher ------------------------------------------------------------------------------ */

/* End a binding and wake all that wait in it. The first reason stays. Needs `watch_lock`. */
static void end_locked(Binding *binding, int why)
{
    int none = 0;
    atomic_compare_exchange_strong(&binding->ends.ended, &none, why);
    raise_alarm(&binding->ends.alarm);
    for (uint32_t i = 0; i < binding->count; i++)
        if (binding->astacks[i].linkage.worker)
            raise_alarm(&binding->astacks[i].linkage.worker->alarm);
}

static void end_binding(Binding *binding, int why)
{
    pthread_mutex_lock(&watch_lock);
    end_locked(binding, why);
    pthread_mutex_unlock(&watch_lock);
}

#include "spinners.h"

static void forget_locked(Binding *binding)
{
    if (!binding->watched)
        return;
    epoll_ctl(epoll, EPOLL_CTL_DEL, binding->ends.door, NULL);
    if (binding->pidfd >= 0)
        epoll_ctl(epoll, EPOLL_CTL_DEL, binding->pidfd, NULL);
    binding->watched = 0;
}

/* Have what is lent attended again where its spinner does not come. Returns whether anything is lent. */
static int look_at_lent(void)
{
    pthread_mutex_lock(&watch_lock);
    ticking = 0;
    for (uint32_t i = 0; i < atomic_load(&spinners); i++) {
        WorkerObject *one = listed[i];
        if (recall_waiting(&one->worker) && atomic_load(&own_linkage(one)->busy))
            atomic_store(&one->worker.held_up, 1);
        for (uint32_t at = 0; at < atomic_load(&one->worker.lent_count); at++)
            ticking |= atomic_load(&one->worker.lent[at].linkage->holder) != OWN;
    }
    int found = ticking;
    pthread_mutex_unlock(&watch_lock);
    return found;
}

/* End each binding whose peer has gone: whichever comes first, the end of file of its door or its
   process, since a forked child can hold the door open. And look at what is lent, while anything is. */
static void *watch(void *unused)
{
    struct epoll_event events[16];
    int mine = epoll, ticks = 0;
    int64_t looked = 0;
    (void)unused;
    for (;;) {
        int n = epoll_wait(mine, events, 16, ticks ? TICK_MS : -1);
        if (n < 0 && errno != EINTR)
            return NULL;
        pthread_mutex_lock(&watch_lock);
        for (int i = 0; i < n; i++)
            for (Binding *one = watched; one; one = one->older)
                if (one->id == events[i].data.u64 && one->watched) {
                    forget_locked(one);
                    end_locked(one, PEER_ENDED);
                }
        pthread_mutex_unlock(&watch_lock);
        int64_t now = now_ns();
        ticks = 1;
        if (now - looked >= TICK_MS * MILLISECOND) {
            ticks = look_at_lent();
            looked = now;
        }
    }
}

static int start_watcher(void)
{
    sigset_t all, before;
    pthread_t thread;
    if (epoll >= 0)
        return 0;
    struct epoll_event kicked = {.events = EPOLLIN | EPOLLET}; /* no binding has the number 0 */
    epoll = epoll_create1(EPOLL_CLOEXEC);
    kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int failed = epoll < 0 || kick < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, kick, &kicked) ? errno : 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    failed = failed ? failed : pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        close(epoll);
        close(kick);
        epoll = kick = -1;
        errno = failed;
        return -1;
    }
    pthread_detach(thread);
    return 0;
}

/* The binding's own copies: nobody can close them, and have their numbers used again, while a thread
   without the interpreter lock is about to send. */
static void close_descriptors(Binding *binding)
{
    int *all[3] = {&binding->ends.door, &binding->ends.notify, &binding->pidfd};
    for (int i = 0; i < 3; i++) {
        if (*all[i] >= 0)
            close(*all[i]);
        *all[i] = -1;
    }
}

static int copy_of(int fd) { return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0); }

/* A forked child has neither the segments (MADV_DONTFORK) nor the watcher. */
static void before_fork(void) { pthread_mutex_lock(&watch_lock); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&watch_lock); }
static void after_fork_in_child(void)
{
    pthread_mutex_init(&watch_lock, NULL);
    generation++;
    if (epoll >= 0) {
        close(epoll);
        close(kick);
    }
    epoll = kick = -1;
    atomic_store(&spinners, 0);
    ticking = 0;
    for (Binding *one = watched; one; one = one->older) {
        one->watched = 0;
        atomic_store(&one->ends.ended, FORKED);
        for (uint32_t i = 0; i < one->count; i++)
            one->astacks[i].linkage.spinning = one->astacks[i].linkage.holder = 0; /* its workers stayed with the parent */
        close_descriptors(one); /* or the peer would not see the parent's end */
    }
    watched = NULL;
}

/* --- bindings --------------------------------------------------------------------------------- */

static int is_live(Binding *binding)
{
    return !atomic_load(&binding->ends.ended) && binding->generation == generation;
}

/* Map a segment, all of it at once. This may take long, and lets other threads run. */
static void *map(int fd, size_t size)
{
    void *base;
    Py_BEGIN_ALLOW_THREADS
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    Py_END_ALLOW_THREADS
    if (base == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    madvise(base, size, MADV_DONTFORK);
    return base;
}

/* Binding(fd, size, astacks, door, pidfd, notify, waits, fresh, pins, owner): astacks is a list of (offset, size,
   group); A-stack i's control block lies at 128 i. */
static PyObject *binding_new(PyTypeObject *type, PyObject *args, PyObject *unused)
{
    int fd, door, pidfd, notify, waits, fresh, pins = 1;
    long long owner = 0;
    Py_ssize_t size;
    PyObject *list;
    (void)unused;
    if (!PyArg_ParseTuple(args, "inO!iiiip|pL", &fd, &size, &PyList_Type, &list, &door, &pidfd, &notify, &waits, &fresh, &pins, &owner))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Binding *self = (Binding *)allocate(type, 0);
    if (!self)
        return NULL;
    Py_ssize_t count = PyList_Size(list);
    self->generation = generation;
    self->ends.door = copy_of(door);
    self->pidfd = copy_of(pidfd);
    self->ends.notify = copy_of(notify);
    self->ends.waits = waits;
    self->ends.pins = pins;
    self->owner = owner;
    self->astacks = calloc((size_t)count + 1, sizeof *self->astacks);
    if (!self->astacks) {
        PyErr_NoMemory();
        goto failed;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        AStack *one = &self->astacks[i];
        Py_ssize_t offset, room;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "nnI", &offset, &room, &one->group))
            goto failed;
        if (offset < count * (Py_ssize_t)sizeof(Control) || room < 0 || room > size || offset > size - room) {
            PyErr_SetString(PyExc_ValueError, "an A-stack outside its segment");
            goto failed;
        }
        if (one->group > (uint32_t)count) {
            PyErr_SetString(PyExc_ValueError, "more groups than A-stacks");
            goto failed;
        }
        if (one->group >= self->groups)
            self->groups = one->group + 1;
        one->size = (size_t)room;
        one->room = (uint8_t *)offset; /* from the base, which comes next */
    }
    if ((door >= 0 && self->ends.door < 0) || (pidfd >= 0 && self->pidfd < 0) || (notify >= 0 && self->ends.notify < 0)) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto failed;
    }
    self->free = malloc((self->groups + 1) * sizeof *self->free);
    self->freed = calloc(self->groups + 1, sizeof *self->freed);
    self->waiting = calloc(self->groups + 1, sizeof *self->waiting);
    if (!self->free || !self->freed || !self->waiting) {
        PyErr_NoMemory();
        goto failed;
    }
    for (uint32_t i = 0; i < self->groups; i++)
        self->free[i] = -1;
    self->base = map(fd, (size_t)size);
    if (!self->base)
        goto failed;
    self->size = (size_t)size;
    self->count = (uint32_t)count;
    for (Py_ssize_t i = count; i-- > 0;) {
        AStack *one = &self->astacks[i];
        one->room = self->base + (size_t)one->room;
        one->linkage.control = (Control *)(self->base + (size_t)i * sizeof(Control));
        one->next = self->free[one->group];
        self->free[one->group] = (int32_t)i;
        if (fresh)
            atomic_store(&one->linkage.control->word, WORD(0, IDLE));
    }
    if (start_watcher()) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto failed;
    }
    pthread_mutex_lock(&watch_lock);
    self->id = ++last_id;
    self->older = watched;
    watched = self;
    struct epoll_event event = {.events = EPOLLRDHUP, .data.u64 = self->id};
    struct epoll_event exit = {.events = EPOLLIN, .data.u64 = self->id};
    self->watched = 1;
    int bad = (door >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, self->ends.door, &event))
              || (pidfd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, self->pidfd, &exit));
    pthread_mutex_unlock(&watch_lock);
    if (!bad)
        return (PyObject *)self;
    PyErr_SetFromErrno(PyExc_OSError);
failed:
    Py_DECREF(self);
    return NULL;
}

/* Take the results that are kept on an A-stack off it, for the caller to let go of; NULL for none. */
static PyObject *unkept(Binding *self, AStack *one)
{
    PyObject *kept = one->kept;
    one->kept = NULL;
    if (kept)
        self->kept_bytes -= PyBytes_Size(kept);
    return kept;
}

/* Return whether so many more bytes of results may be kept for a client. It may always have one
   result kept, as long as there is room for all. */
static int may_keep(Binding *self, int64_t size)
{
    int64_t all = 0, own = 0;
    pthread_mutex_lock(&watch_lock);
    for (Binding *other = watched; other; other = other->older) {
        all += other->kept_bytes;
        own += other->owner == self->owner ? other->kept_bytes : 0;
    }
    pthread_mutex_unlock(&watch_lock);
    return all + size <= most_kept && (!own || own + size <= most_kept_for_one);
}

/* Keep results until their client has made room for them. Returns 0 where that is too much. */
static int keep(Binding *self, AStack *one, int kind, PyObject *data)
{
    int64_t size = PyBytes_Size(data);
    if (!may_keep(self, size))
        return 0;
    self->kept_bytes += size;
    one->kept = Py_NewRef(data);
    one->kept_kind = kind;
    one->kept_at = now_ns();
    PyObject *told = on_kept ? PyObject_CallNoArgs(on_kept) : Py_NewRef(Py_None);
    if (!told)
        PyErr_Clear(); /* it is dropped once the binding ends */
    Py_XDECREF(told);
    return 1;
}

/* Drop what one binding keeps, or all of them, since before a time. Returns the bytes that are left. */
static int64_t drop_kept(Binding *of, int64_t before)
{
    for (;;) { /* from the beginning each time: what lets go of results may be anybody's code */
        PyObject *found = NULL;
        int64_t left = 0;
        pthread_mutex_lock(&watch_lock);
        for (Binding *binding = watched; binding; binding = binding->older) {
            if (of && of != binding)
                continue;
            for (uint32_t i = 0; !found && binding->kept_bytes && i < binding->count; i++)
                if (binding->astacks[i].kept && binding->astacks[i].kept_at <= before)
                    found = unkept(binding, &binding->astacks[i]);
            left += binding->kept_bytes;
        }
        pthread_mutex_unlock(&watch_lock);
        if (!found)
            return left;
        Py_DECREF(found);
    }
}

static void binding_dealloc(PyObject *object)
{
    Binding *self = (Binding *)object;
    PyTypeObject *type = Py_TYPE(object);
    pthread_mutex_lock(&watch_lock);
    if (self->generation == generation)
        forget_locked(self);
    for (Binding **at = &watched; *at; at = &(*at)->older)
        if (*at == self) {
            *at = self->older;
            break;
        }
    pthread_mutex_unlock(&watch_lock);
    for (uint32_t i = 0; i < self->count; i++) {
        Py_CLEAR(self->astacks[i].kept);
        if (self->astacks[i].region && self->generation == generation)
            munmap(self->astacks[i].region, self->astacks[i].region_size);
    }
    if (self->base && self->generation == generation)
        munmap(self->base, self->size);
    close_descriptors(self);
    free(self->astacks);
    free(self->free);
    free(self->freed);
    free(self->waiting);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Stop watching and end the binding; its descriptors may be closed after this. */
static PyObject *binding_end(PyObject *object, PyObject *unused)
{
    Binding *self = (Binding *)object;
    (void)unused;
    pthread_mutex_lock(&watch_lock);
    if (self->generation == generation) {
        forget_locked(self);
        if (self->ends.door >= 0)
            shutdown(self->ends.door, SHUT_RDWR); /* the peer sees the end now, not once all copies are closed */
    }
    end_locked(self, CLOSED);
    pthread_mutex_unlock(&watch_lock);
    drop_kept(self, FOREVER);
    Py_RETURN_NONE;
}

static void release_astack(Binding *self, uint32_t index)
{
    AStack *one = &self->astacks[index];
    one->next = self->free[one->group];
    self->free[one->group] = (int32_t)index;
    if (self->waiting[one->group]) {
        atomic_fetch_add(&self->freed[one->group], 1);
        futex_wake(&self->freed[one->group], 1, 1); /* shared, as `sleep_on` waits on its first word */
    }
}

/* Take back the A-stacks whose server has let go of them, and end a binding that holds others for
   too long. */
static void end_quarantines(Binding *self)
{
    int64_t now = now_ns();
    for (uint32_t i = 0; self->quarantined && i < self->count; i++) {
        AStack *one = &self->astacks[i];
        if (!one->aborted_at)
            continue;
        uint32_t word = atomic_load(&one->linkage.control->word);
        if (PHASE(word) == DONE && NUMBER(word) == one->linkage.number) {
            one->aborted_at = 0;
            self->quarantined--;
            release_astack(self, i);
        } else if (PHASE(word) != ABORTED || NUMBER(word) != one->linkage.number)
            end_binding(self, PEER_BROKEN);
        else if (now - one->aborted_at > most_held_ns)
            end_binding(self, PEER_HOLDS); /* it may be honest, and slow */
    }
}

/* Pop an A-stack of a group off its queue; wait for one until the deadline. Returns its index, or
   what `call` returns in place of results; -100 with a Python error set. */
static long take_astack(Binding *self, uint32_t group, int64_t deadline, int waits)
{
    for (;;) {
        uint32_t still = atomic_load(&self->ends.alarm); /* before we look whether it has ended */
        if (self->quarantined && is_live(self))
            end_quarantines(self);
        if (!is_live(self))
            return CALL_UNTAKEN;
        if (self->quarantined >= MOST_QUARANTINED)
            return CALL_QUARANTINED;
        int32_t index = self->free[group];
        if (index >= 0) {
            self->free[group] = self->astacks[index].next;
            return index;
        }
        if (!waits)
            return CALL_PENDING;
        int64_t now = now_ns(), until = deadline;
        if (now >= deadline)
            return CALL_WITHDRAWN;
        if (self->quarantined && until > now + 10 * MILLISECOND)
            until = now + 10 * MILLISECOND; /* nothing wakes us when a server lets go of one */
        if (until > now + SECOND)
            until = now + SECOND; /* to look for signals */
        uint32_t seen = atomic_load(&self->freed[group]);
        self->waiting[group]++;
        int woken;
        Py_BEGIN_ALLOW_THREADS
        woken = sleep_on(&self->freed[group], seen, &self->ends.alarm, still, until);
        Py_END_ALLOW_THREADS
        self->waiting[group]--;
        if (woken != COMPLETED && PyErr_CheckSignals())
            return -100;
    }
}

static Py_ssize_t size_of(PyObject *head) { return head ? PyBytes_Size(head) : 0; }

/* Write arguments or results, behind their head if they have one, where they find room, and say where;
   return 0 where they find none. */
static int write_bytes(AStack *one, PyObject *head, PyObject *data, _Atomic uint32_t *length, _Atomic uint32_t *place,
                       uint8_t *line, size_t line_size)
{
    size_t before = (size_t)size_of(head), size = before + (size_t)PyBytes_Size(data);
    uint32_t where = size <= line_size ? INLINE : size <= one->size ? ON_ASTACK : OUT_OF_BAND;
    if (where == OUT_OF_BAND && size > one->region_size)
        return 0;
    if (where == OUT_OF_BAND)
        one->region_used = now_ns();
    uint8_t *to = where == INLINE ? line : where == ON_ASTACK ? one->room : one->region;
    if (before)
        memcpy(to, PyBytes_AsString(head), before);
    memcpy(to + before, PyBytes_AsString(data), size - before);
    atomic_store_explicit(length, (uint32_t)size, memory_order_relaxed);
    atomic_store_explicit(place, where, memory_order_relaxed);
    return 1;
}

/* Return a copy of bytes. What deserializes a large message allocates next, as much as the message has
   for its largest field, and copies that field there. Two blocks of whole pages then lie one behind the
   other, and from one place in a page to some bytes behind the same place in another, processors copy
   up to twenty times slower (AMD's `rep movsb`). So some room is left behind a large message. */
static PyObject *copied(const uint8_t *from, size_t size)
{
    size_t apart = size < 4096 ? 0 : 208; /* no usual size is by so much less than whole pages */
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + apart));
    if (!made)
        return NULL;
    char *to = PyBytes_AsString(made);
    memcpy(to, from, size);
    to[size] = 0;
    Py_SET_SIZE((PyVarObject *)made, (Py_ssize_t)size);
    return made;
}

/* Return with which of some heads bytes begin, from 1 on, where what follows is of `most` bytes at most;
   0 for none. */
static int head_of(PyObject *const *heads, const uint8_t *from, size_t size, size_t most)
{
    for (int i = 0; heads && heads[i]; i++) {
        size_t head = (size_t)PyBytes_Size(heads[i]);
        if (size >= head && size - head <= most && !memcmp(from, PyBytes_AsString(heads[i]), head))
            return i + 1;
    }
    return 0;
}

/* Copy what the peer says lies there; its length and place are read once. Where it begins with one of
   the heads, return what follows and set `*behind`: see `head_of`. A head's bytes are compared where they
   lie, and not read again. Returns NULL without an error where length or place are wrong. */
static PyObject *read_bytes(AStack *one, _Atomic uint32_t *length, _Atomic uint32_t *place, const uint8_t *line,
                            size_t line_size, PyObject *const *heads, size_t most_behind, int *behind)
{
    size_t size = atomic_load_explicit(length, memory_order_relaxed);
    uint32_t where = atomic_load_explicit(place, memory_order_relaxed);
    size_t most = where == INLINE ? line_size : where == ON_ASTACK ? one->size : one->region_size;
    if (size > most || where > INLINE)
        return NULL;
    if (where == OUT_OF_BAND)
        one->region_used = now_ns();
    const uint8_t *from = where == INLINE ? line : where == ON_ASTACK ? one->room : one->region;
    int found = head_of(heads, from, size, most_behind);
    size_t before = found ? (size_t)PyBytes_Size(heads[found - 1]) : 0;
    if (behind)
        *behind = found;
    return copied(from + before, size - before);
}

/* Return whether so many bytes find room. */
static int has_room(const AStack *one, int64_t size)
{
    return size <= (int64_t)one->size || size <= (int64_t)one->region_size;
}

static int write_arguments(AStack *one, PyObject *head, PyObject *data)
{
    Control *control = one->linkage.control;
    return write_bytes(one, head, data, &control->length, &control->place, control->arguments, INLINE_ARGUMENTS);
}

static PyObject *broken(Binding *self)
{
    end_binding(self, PEER_BROKEN);
    return PyLong_FromLong(CALL_BROKEN);
}

/* Return the results of a call that is done, and release its A-stack. See `read_bytes` for the head. */
static PyObject *results(Binding *self, uint32_t index, PyObject *head, size_t most_behind, int *behind)
{
    AStack *one = &self->astacks[index];
    Control *control = one->linkage.control;
    uint32_t kind = atomic_load_explicit(&control->kind, memory_order_relaxed);
    if (kind == NO_ROOM) {
        uint32_t need = atomic_load_explicit(&control->result_length, memory_order_relaxed);
        if (need > MOST_BYTES)
            return broken(self);
        return Py_BuildValue("(iIIO)", NO_ROOM, index, need, Py_True); /* the A-stack stays the caller's */
    }
    if (kind == NOT_KEPT) {
        release_astack(self, index);
        return PyLong_FromLong(CALL_NOT_KEPT);
    }
    PyObject *heads[] = {kind == RESULTS ? head : NULL, NULL};
    PyObject *data = read_bytes(one, &control->result_length, &control->result_place, control->results, INLINE_RESULTS, heads,
                                most_behind, behind);
    if (!data)
        return PyErr_Occurred() ? NULL : broken(self);
    release_astack(self, index);
    if (kind == RESULTS)
        return data;
    PyObject *pair = Py_BuildValue("(IN)", kind, data);
    return pair;
}

/* Release the caller from the call on an A-stack; say how that went. */
static PyObject *abort_call(Binding *self, uint32_t index)
{
    AStack *one = &self->astacks[index];
    switch (client_abort(&self->ends, &one->linkage)) {
    case DONE:
        return results(self, index, NULL, 0, NULL);
    case CALLED:
        release_astack(self, index);
        return PyLong_FromLong(CALL_WITHDRAWN);
    case RUNNING:
        one->aborted_at = now_ns();
        self->quarantined++;
        return PyLong_FromLong(CALL_ABORTED);
    }
    return broken(self);
}

/* The arguments of `call` and `begin`: (group or index, procedure, data, ...). */
static int parse_call(Binding *self, PyObject *const *args, unsigned long *group, unsigned long *procedure)
{
    *group = PyLong_AsUnsignedLong(args[0]);
    *procedure = PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred())
        return 0;
    if (*group >= self->groups || !PyBytes_Check(args[2])) {
        PyErr_SetString(PyExc_ValueError, "no such group of A-stacks, or arguments that are not bytes");
        return 0;
    }
    return 1;
}

static long own_index(Binding *self, PyObject *number)
{
    long index = PyLong_AsLong(number);
    if (index == -1 && PyErr_Occurred())
        return -100;
    if (index >= (long)self->count) {
        PyErr_SetString(PyExc_ValueError, "no such A-stack");
        return -100;
    }
    return index;
}

/* Make a call on an A-stack that is held, and return its reply as `call` does; behind `answer`, see
   `read_bytes`. */
static PyObject *transfer(Binding *self, uint32_t index, unsigned long procedure, PyObject *head, PyObject *data,
                          int64_t deadline, PyObject *answer, size_t most_behind, int *behind)
{
    AStack *one = &self->astacks[index];
    Control *control = one->linkage.control;
    if (!write_arguments(one, head, data))
        return Py_BuildValue("(iInO)", NO_ROOM, index, size_of(head) + PyBytes_Size(data), Py_False);
    atomic_store_explicit(&control->procedure, (uint32_t)procedure, memory_order_relaxed);
    int ended, spins = client_spins(&self->ends, &one->linkage);
    int64_t started = spins && atomic_load_explicit(&control->spins, memory_order_relaxed) ? 0 : now_ns();
    atomic_store_explicit(&control->called_at, (uint64_t)started, memory_order_relaxed);
    PyThreadState *state = PyEval_SaveThread();
    ended = client_start(&self->ends, &one->linkage, spins ? 0 : CLIENT_ASLEEP);
    if (ended == COMPLETED)
        ended = client_wait(&self->ends, &one->linkage, deadline, spins);
    while (ended == INTERRUPTED) {
        PyEval_RestoreThread(state);
        if (PyErr_CheckSignals()) { /* Ctrl-C: the call is aborted, and the exception goes on */
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            PyObject *reply = abort_call(self, index);
            if (reply && PyTuple_Check(reply) && PyTuple_Size(reply) == 4)
                release_astack(self, index); /* results that found no room, and that nobody wants */
            Py_XDECREF(reply);
            PyErr_Restore(type, value, traceback);
            return NULL;
        }
        state = PyEval_SaveThread();
        ended = client_wait(&self->ends, &one->linkage, deadline, 0);
    }
    PyEval_RestoreThread(state);
    switch (ended) {
    case COMPLETED:
        if (started)
            learn_took(&one->linkage, now_ns() - started);
        return results(self, index, answer, most_behind, behind);
    case EXPIRED:
        return abort_call(self, index);
    case ENDED: /* whether the server may have taken the arguments: the caller may want to ask another */
        return PyLong_FromLong(PHASE(atomic_load(&control->word)) == CALLED ? CALL_UNTAKEN : CALL_ENDED);
    }
    return broken(self);
}

/* call(group, procedure, data, deadline_ns, index) -> bytes | (kind, bytes) | int | (NO_ROOM, index,
   bytes needed, whether it is the results that found no room) */
static PyObject *binding_call(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Binding *self = (Binding *)object;
    unsigned long group, procedure;
    if (count != 5 || !parse_call(self, args, &group, &procedure))
        return count != 5 ? (PyErr_SetString(PyExc_TypeError, "call takes 5 arguments"), NULL) : NULL;
    int64_t deadline = PyLong_AsLongLong(args[3]); /* -1: none */
    if (deadline == -1 && !PyErr_Occurred())
        deadline = FOREVER;
    long index = own_index(self, args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (deadline != FOREVER && now_ns() >= deadline) { /* even where a server that spins could answer first */
        if (index >= 0)
            release_astack(self, (uint32_t)index);
        return PyLong_FromLong(CALL_WITHDRAWN);
    }
    if (index < 0)
        index = take_astack(self, (uint32_t)group, deadline, 1);
    else if (!is_live(self))
        return PyLong_FromLong(CALL_ENDED);
    if (index < 0)
        return index == -100 ? NULL : PyLong_FromLong(index);
    return transfer(self, (uint32_t)index, procedure, NULL, args[2], deadline, NULL, 0, NULL);
}

/* begin(group, procedure, data, index) -> index | CALL_PENDING where no A-stack is free | ... */
static PyObject *binding_begin(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Binding *self = (Binding *)object;
    unsigned long group, procedure;
    if (count != 4 || !parse_call(self, args, &group, &procedure))
        return count != 4 ? (PyErr_SetString(PyExc_TypeError, "begin takes 4 arguments"), NULL) : NULL;
    long index = own_index(self, args[3]);
    if (PyErr_Occurred())
        return NULL;
    if (index < 0)
        index = take_astack(self, (uint32_t)group, 0, 0);
    else if (!is_live(self))
        return PyLong_FromLong(CALL_ENDED);
    if (index < 0)
        return index == -100 ? NULL : PyLong_FromLong(index);
    AStack *one = &self->astacks[index];
    Control *control = one->linkage.control;
    if (!write_arguments(one, NULL, args[2]))
        return Py_BuildValue("(iInO)", NO_ROOM, (uint32_t)index, PyBytes_Size(args[2]), Py_False);
    atomic_store_explicit(&control->procedure, (uint32_t)procedure, memory_order_relaxed);
    atomic_store_explicit(&control->called_at, (uint64_t)now_ns(), memory_order_relaxed);
    if (client_start(&self->ends, &one->linkage, CLIENT_NOTIFIED) != COMPLETED)
        return broken(self);
    return PyLong_FromLong(index);
}

/* collect(index) -> as `call`, or CALL_PENDING */
static PyObject *binding_collect(PyObject *object, PyObject *number)
{
    Binding *self = (Binding *)object;
    long index = own_index(self, number);
    if (index < 0)
        return index == -100 ? NULL : PyLong_FromLong(CALL_BROKEN);
    Linkage *linkage = &self->astacks[index].linkage;
    if (self->generation != generation)
        return PyLong_FromLong(CALL_ENDED);
    uint32_t word = atomic_load(&linkage->control->word);
    if (NUMBER(word) != linkage->number)
        return broken(self);
    if (PHASE(word) == DONE)
        return results(self, (uint32_t)index, NULL, 0, NULL);
    if (PHASE(word) != CALLED && PHASE(word) != RUNNING)
        return broken(self);
    return PyLong_FromLong(is_live(self) ? CALL_PENDING : PHASE(word) == CALLED ? CALL_UNTAKEN : CALL_ENDED);
}

/* abort(index) -> as `call` */
static PyObject *binding_abort(PyObject *object, PyObject *number)
{
    Binding *self = (Binding *)object;
    long index = own_index(self, number);
    if (index < 0)
        return index == -100 ? NULL : PyLong_FromLong(CALL_BROKEN);
    return is_live(self) ? abort_call(self, (uint32_t)index) : PyLong_FromLong(CALL_ENDED);
}

/* release(index): put back an A-stack on which no call was made, unless it is back already */
static PyObject *binding_release(PyObject *object, PyObject *number)
{
    Binding *self = (Binding *)object;
    long index = own_index(self, number);
    if (index == -100)
        return NULL;
    int is_free = index < 0;
    for (int32_t one = is_free ? -1 : self->free[self->astacks[index].group]; one >= 0; one = self->astacks[one].next)
        is_free |= one == index;
    if (!is_free)
        release_astack(self, (uint32_t)index);
    Py_RETURN_NONE;
}

/* attach(index, fd, size): give an A-stack an out-of-band segment, in place of the one it has */
static PyObject *binding_attach(PyObject *object, PyObject *args)
{
    Binding *self = (Binding *)object;
    unsigned int index;
    int fd;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Iin", &index, &fd, &size))
        return NULL;
    if (index >= self->count || self->astacks[index].linkage.busy || !is_live(self)) {
        PyErr_SetString(PyExc_ValueError, "no such A-stack, or it is in use");
        return NULL;
    }
    AStack *one = &self->astacks[index];
    void *region = map(fd, (size_t)size);
    if (!region)
        return NULL;
    if (one->linkage.busy || !is_live(self)) { /* since it was mapped */
        munmap(region, (size_t)size);
        PyErr_SetString(PyExc_ValueError, "the A-stack is in use");
        return NULL;
    }
    if (one->region)
        munmap(one->region, one->region_size);
    one->region = region;
    one->region_size = (size_t)size;
    one->region_used = now_ns();
    Py_RETURN_NONE;
}

/* detach(index): take an A-stack's out-of-band segment away */
static PyObject *binding_detach(PyObject *object, PyObject *number)
{
    Binding *self = (Binding *)object;
    long index = own_index(self, number);
    if (index == -100)
        return NULL;
    if (index < 0 || self->astacks[index].linkage.busy || !is_live(self)) {
        PyErr_SetString(PyExc_ValueError, "no such A-stack, or it is in use");
        return NULL;
    }
    AStack *one = &self->astacks[index];
    if (one->region)
        munmap(one->region, one->region_size);
    one->region = NULL;
    one->region_size = 0;
    Py_RETURN_NONE;
}

/* spare(idle_ns) -> an A-stack, off its queue, whose out-of-band segment was not used for so long;
   -1 where there is none */
static PyObject *binding_spare(PyObject *object, PyObject *number)
{
    Binding *self = (Binding *)object;
    long long idle = PyLong_AsLongLong(number);
    if (PyErr_Occurred())
        return NULL;
    int64_t before = now_ns() - idle;
    for (uint32_t group = 0; is_live(self) && group < self->groups; group++)
        for (int32_t *at = &self->free[group]; *at >= 0; at = &self->astacks[*at].next) {
            int32_t index = *at;
            if (!self->astacks[index].region || self->astacks[index].region_used > before)
                continue;
            *at = self->astacks[index].next;
            return PyLong_FromLong(index);
        }
    return PyLong_FromLong(-1);
}

/* regions() -> how many A-stacks have an out-of-band segment */
static PyObject *binding_regions(PyObject *object, PyObject *unused)
{
    Binding *self = (Binding *)object;
    uint32_t found = 0;
    (void)unused;
    for (uint32_t i = 0; i < self->count; i++)
        found += self->astacks[i].region != NULL;
    return PyLong_FromUnsignedLong(found);
}

/* unattended() -> list of A-stacks with calls that no worker attends; ends a binding with a word
   that no client leaves */
static PyObject *binding_unattended(PyObject *object, PyObject *unused)
{
    Binding *self = (Binding *)object;
    PyObject *found = PyList_New(0);
    (void)unused;
    for (uint32_t i = 0; found && is_live(self) && i < self->count; i++) {
        Linkage *linkage = &self->astacks[i].linkage;
        uint32_t word = atomic_load(&linkage->control->word);
        if (linkage->worker || linkage->busy)
            continue;
        if (PHASE(word) == CALLED && NUMBER(word) == NEXT(linkage->number)) {
            PyObject *number = PyLong_FromUnsignedLong(i);
            if (!number || PyList_Append(found, number))
                Py_CLEAR(found);
            Py_XDECREF(number);
        } else if ((PHASE(word) != IDLE && PHASE(word) != DONE) || NUMBER(word) != linkage->number)
            end_binding(self, PEER_BROKEN);
    }
    return found;
}

/* aborted() -> list of A-stacks whose calls run here, and whose callers have gone */
static PyObject *binding_aborted(PyObject *object, PyObject *unused)
{
    Binding *self = (Binding *)object;
    PyObject *found = PyList_New(0);
    (void)unused;
    for (uint32_t i = 0; found && is_live(self) && i < self->count; i++) {
        Linkage *linkage = &self->astacks[i].linkage;
        uint32_t word = atomic_load(&linkage->control->word);
        if (!linkage->busy || PHASE(word) != ABORTED || NUMBER(word) != linkage->number)
            continue;
        PyObject *number = PyLong_FromUnsignedLong(i);
        if (!number || PyList_Append(found, number))
            Py_CLEAR(found);
        Py_XDECREF(number);
    }
    return found;
}

/* number(index) -> the number of the last call on an A-stack, the same on both sides while it runs */
static PyObject *binding_number(PyObject *object, PyObject *number)
{
    long index = own_index((Binding *)object, number);
    if (index == -100)
        return NULL;
    return PyLong_FromLong(index < 0 ? -1 : (long)((Binding *)object)->astacks[index].linkage.number);
}

/* Return whether an A-stack of a group is free. */
static int has_idle(Binding *self, uint32_t group)
{
    if (self->quarantined && is_live(self))
        end_quarantines(self);
    return self->free[group] >= 0;
}

/* idle(group) -> whether an A-stack of the group is free */
static PyObject *binding_idle(PyObject *object, PyObject *number)
{
    Binding *self = (Binding *)object;
    unsigned long group = PyLong_AsUnsignedLong(number);
    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(group < self->groups && has_idle(self, (uint32_t)group));
}

/* Return whether a worker watches for calls of an A-stack: its own, or one that it is lent to. */
static int is_watched(Linkage *linkage) { return linkage->spinning || atomic_load(&linkage->holder) != OWN; }

static PyObject *binding_counts(PyObject *object, PyObject *unused)
{
    Binding *self = (Binding *)object;
    uint32_t attended = 0, busy = 0, spinning = 0, idle = 0;
    (void)unused;
    for (uint32_t i = 0; i < self->count; i++) {
        attended += self->astacks[i].linkage.worker != NULL;
        busy += self->astacks[i].linkage.busy != 0;
        spinning += is_watched(&self->astacks[i].linkage);
    }
    for (uint32_t group = 0; group < self->groups; group++)
        for (int32_t i = self->free[group]; i >= 0; i = self->astacks[i].next)
            idle++;
    Ends *ends = &self->ends;
    return Py_BuildValue("{sKsKsKsKsKsKsIsIsIsIsIsI}", "calls", ends->calls, "spun", ends->spun, "lent", ends->lent, "slept",
                         ends->slept, "bells", ends->bells, "aborted", ends->aborted, "astacks", self->count, "free", idle, "attended", attended, "busy", busy, "spinning",
                         spinning, "quarantined", self->quarantined);
}

/* why() -> why the workers of the A-stack that was used last do not watch: WATCHES and so on */
static PyObject *binding_why(PyObject *object, PyObject *unused)
{
    Binding *self = (Binding *)object;
    Linkage *last = NULL;
    int64_t now = now_ns();
    (void)unused;
    for (uint32_t i = 0; i < self->count; i++) {
        Linkage *one = &self->astacks[i].linkage;
        if (is_watched(one))
            return PyLong_FromLong(WATCHES);
        if (one->worker && (!last || one->done_at > last->done_at))
            last = one;
    }
    if (self->ends.waits != ADAPTIVE)
        return PyLong_FromLong(self->ends.waits == ALWAYS_SPIN ? WATCHES : AS_ASKED);
    if (!atomic_load(&spinners_most))
        return PyLong_FromLong(NOTHING_TO_SPARE);
    if (!last)
        return PyLong_FromLong(NO_CALLS);
    if (!may_spin())
        return PyLong_FromLong(BUDGET);
    if (now < last->again_at || now < atomic_load(&spin_again_at))
        return PyLong_FromLong(BACKS_OFF);
    if (atomic_load(&quick_calls) >= QUICK_CALLS && atomic_load(&spinners) >= atomic_load(&spinners_most))
        return PyLong_FromLong(OTHERS_WATCH);
    return PyLong_FromLong(FAR_APART);
}

static PyObject *binding_ended(PyObject *object, void *unused)
{
    Binding *self = (Binding *)object;
    (void)unused;
    return PyLong_FromLong(self->generation != generation ? FORKED : atomic_load(&self->ends.ended));
}

static PyMethodDef binding_methods[] = {
    {"call", (PyCFunction)(void (*)(void))binding_call, METH_FASTCALL, NULL},
    {"begin", (PyCFunction)(void (*)(void))binding_begin, METH_FASTCALL, NULL},
    {"collect", binding_collect, METH_O, NULL},
    {"abort", binding_abort, METH_O, NULL},
    {"release", binding_release, METH_O, NULL},
    {"idle", binding_idle, METH_O, NULL},
    {"attach", binding_attach, METH_VARARGS, NULL},
    {"detach", binding_detach, METH_O, NULL},
    {"spare", binding_spare, METH_O, NULL},
    {"regions", binding_regions, METH_NOARGS, NULL},
    {"unattended", binding_unattended, METH_NOARGS, NULL},
    {"aborted", binding_aborted, METH_NOARGS, NULL},
    {"number", binding_number, METH_O, NULL},
    {"counts", binding_counts, METH_NOARGS, NULL},
    {"why", binding_why, METH_NOARGS, NULL},
    {"end", binding_end, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef binding_properties[] = {{"ended", binding_ended, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot binding_slots[] = {
    {Py_tp_new, binding_new}, {Py_tp_dealloc, binding_dealloc}, {Py_tp_methods, binding_methods}, {Py_tp_getset, binding_properties}, {0, NULL}};
static PyType_Spec binding_spec = {"lrpc.kernel.host.native.Binding", sizeof(Binding), 0, Py_TPFLAGS_DEFAULT, binding_slots};
static PyTypeObject *binding_type;

/* Return the exception that is raised, whatever it is, and let it be raised no more. */
static PyObject *raised(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* Have an exception be the one that is handled, as `sys.exception` tells; return what was before. */
static PyObject *handle_error(PyObject *error)
{
    PyObject *before = PyErr_GetHandledException();
    PyErr_SetHandledException(error);
    return before;
}

/* Have what was handled before be so again, and let go of both. */
static void handled(PyObject *before, PyObject *error)
{
    PyErr_SetHandledException(before);
    Py_XDECREF(before);
    Py_XDECREF(error);
}

#include "stub.h"
#include "handler.h"

/* --- workers ---------------------------------------------------------------------------------- */

static PyObject *worker_new(PyTypeObject *type, PyObject *args, PyObject *unused)
{
    (void)unused;
    if (!PyArg_ParseTuple(args, ""))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    WorkerObject *self = (WorkerObject *)allocate(type, 0);
    if (self)
        self->worker.last_cpu = self->worker.took = -1;
    return (PyObject *)self;
}

static void detach(WorkerObject *self)
{
    Binding *binding = self->binding;
    if (!binding)
        return;
    unlist(self);
    drop_from_busy();
    AStack *one = &binding->astacks[self->index];
    pthread_mutex_lock(&watch_lock);
    one->linkage.worker = NULL;
    pthread_mutex_unlock(&watch_lock);
    stop_spinning(&one->linkage); /* kept results stay: their client asks another worker for them */
    self->binding = NULL;
    swap(&self->left, &self->served);
    Py_CLEAR(self->served);
    Py_DECREF(binding);
    Py_CLEAR(self->entries);
    Py_CLEAR(self->on_error);
    Py_CLEAR(self->pending);
    Py_CLEAR(self->stub);
    self->head = NULL;
}

static void worker_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    detach((WorkerObject *)object);
    Py_CLEAR(((WorkerObject *)object)->left);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* Answer the call that the worker holds; without `data`, that there are no results any more.
   Returns what `server_reply` does. */
static int answer(WorkerObject *self, int kind, PyObject *data, uint32_t worker_bits)
{
    AStack *one = &self->binding->astacks[self->index];
    Control *control = one->linkage.control;
    Py_XDECREF(unkept(self->binding, one));
    if (!data)
        kind = NOT_KEPT;
    else if (!write_bytes(one, self->head, data, &control->result_length, &control->result_place, control->results, INLINE_RESULTS)) {
        int64_t size = size_of(self->head) + PyBytes_Size(data);
        PyObject *whole = may_keep(self->binding, size) ? joined(self->head, data) : NULL;
        kind = whole && keep(self->binding, one, kind, whole) ? NO_ROOM : NOT_KEPT;
        atomic_store_explicit(&control->result_length, (uint32_t)size, memory_order_relaxed);
        if (!whole)
            PyErr_Clear();
        Py_XDECREF(whole);
    }
    self->head = NULL;
    atomic_store_explicit(&control->kind, (uint32_t)kind, memory_order_relaxed);
    return server_reply(&self->binding->ends, &one->linkage, worker_bits);
}

/* Wait for the next call, and read it. Returns COMPLETED with a call; EXPIRED where the worker lingers
   and none has come; LEFT where the worker is free again; -1 with a Python error set. */
static int next_call(WorkerObject *self, int spins, int64_t idle_ns, uint32_t *procedure, PyObject **data)
{
    for (;;) {
        int ended;
        if (!spins)
            unlist(self);
        if (self->lends)
            lend(self);
        self->lends = 0;
        await_own(self, idle_ns);
        Binding *binding = self->binding;
        Linkage *linkage = own_linkage(self);
        Py_BEGIN_ALLOW_THREADS
        ended = server_await(&binding->ends, &self->worker, linkage, spins, idle_ns);
        Py_END_ALLOW_THREADS
        if (ended == STOPPED) {
            spins = 0;
            continue;
        }
        if (self->worker.took >= 0 && ended != COMPLETED) {
            give_back(self, ended == BROKEN);
            continue;
        }
        if (self->worker.took >= 0)
            go_over(self);
        drop_owned(&self->worker);
        binding = self->binding;
        AStack *one = &binding->astacks[self->index];
        Control *control = one->linkage.control;
        if (ended == EXPIRED)
            return EXPIRED;
        if (ended == BROKEN)
            end_binding(binding, PEER_BROKEN);
        if (ended != COMPLETED) {
            detach(self);
            return LEFT;
        }
        attended = self->index;
        *procedure = atomic_load_explicit(&control->procedure, memory_order_relaxed);
        binding->ends.calls++;
        if (*procedure == COLLECT) {
            PyObject *kept = Py_XNewRef(one->kept);
            ended = answer(self, one->kept_kind, kept, WORKER_AWAKE);
            Py_XDECREF(kept);
            spins = self->worker.listed;
            if (ended == COMPLETED)
                continue;
            *procedure = 0;
        }
        HandlerStub *stub = *procedure ? NULL : (HandlerStub *)self->stub;
        *data = ended == COMPLETED ? read_bytes(one, &control->length, &control->place, control->arguments, INLINE_ARGUMENTS,
                                                stub ? stub->heads : NULL, stub ? (size_t)stub->most_received : 0, &self->behind) : NULL;
        if (*data)
            return COMPLETED;
        if (PyErr_Occurred())
            return -1;
        one->linkage.busy = 0;
        end_binding(binding, PEER_BROKEN);
        detach(self);
        return LEFT;
    }
}

/* Take an A-stack that nobody attends. Returns whether it could. */
static int attach(WorkerObject *self, PyObject *given, unsigned int index)
{
    Binding *binding = (Binding *)given;
    if (index >= binding->count || self->binding || !is_live(binding) || binding->astacks[index].linkage.worker)
        return 0;
    self->binding = (Binding *)Py_NewRef(given);
    self->index = index;
    pthread_mutex_lock(&watch_lock);
    binding->astacks[index].linkage.worker = &self->worker;
    pthread_mutex_unlock(&watch_lock);
    return 1;
}

/* serve(binding, index, idle_ms) -> (procedure, data) | None: one call, whose answer leaves the A-stack */
static PyObject *worker_serve(PyObject *object, PyObject *args)
{
    WorkerObject *self = (WorkerObject *)object;
    PyObject *given, *data;
    unsigned int index;
    long long idle_ms;
    uint32_t procedure;
    if (!PyArg_ParseTuple(args, "O!IL", binding_type, &given, &index, &idle_ms))
        return NULL;
    if (!attach(self, given, index))
        Py_RETURN_NONE;
    int found = next_call(self, 0, idle_ms * MILLISECOND, &procedure, &data);
    if (found == COMPLETED)
        return Py_BuildValue("(kN)", (unsigned long)procedure, data);
    return found < 0 ? NULL : Py_NewRef(Py_None);
}

/* Answer the call that the worker holds. Returns whether the worker stays; -1 with a Python error set. */
static int answer_with(WorkerObject *self, long kind, PyObject *data, int stay)
{
    if (!self->binding || !PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "an answer takes a kind, bytes, and whether to stay; after serve");
        return -1;
    }
    Linkage *linkage = own_linkage(self);
    if (self->binding->generation != generation) { /* forked in the middle of a call */
        detach(self);
        return 0;
    }
    stay = stay && self->entries != NULL; /* who serves one call does not */
    check_held_up(self);
    if (linkage->wants)
        displace();
    self->spins = stay && server_spins(&self->binding->ends, linkage, atomic_load(&self->worker.lent_count) != 0);
    if (self->spins && self->binding->ends.waits == ADAPTIVE && !enlist(self)) {
        stop_spinning(linkage); /* others have begun meanwhile */
        self->spins = 0;
    }
    self->lends = stay && !self->spins && linkage->lends && find_spinner(self);
    if (linkage->wants && !self->lends)
        atomic_store_explicit(&wanted_at, now_ns(), memory_order_relaxed);
    linkage->wants = 0;
    int watched = self->spins || self->lends;
    atomic_store_explicit(&linkage->control->spins, (uint32_t)watched, memory_order_relaxed);
    int done = answer(self, (int)kind, data, !stay ? 0 : watched ? WORKER_AWAKE : WORKER_ASLEEP);
    if (done == COMPLETED && stay)
        return 1;
    if (done != COMPLETED)
        end_binding(self->binding, PEER_BROKEN);
    detach(self);
    return 0;
}

/* Call a procedure's server stub; NULL with a Python error set, also where it returns no bytes. */
static PyObject *call_entry(WorkerObject *self, uint32_t procedure, PyObject *data)
{
    PyObject *result = NULL;
    if (self->stub && !procedure) {
        PyObject *reply = reply_to((HandlerStub *)self->stub, self->behind, data);
        if (!reply || !is_apart(reply))
            result = reply;
        else {
            result = Py_NewRef(PyTuple_GetItem(reply, 0));
            self->head = ((HandlerStub *)self->stub)->answer;
            Py_DECREF(reply);
        }
    } else {
        PyObject *entry = PySequence_GetItem(self->entries, (Py_ssize_t)procedure), *offset = PyLong_FromLong(0);
        if (entry && offset)
            result = PyObject_CallFunctionObjArgs(entry, data, offset, NULL);
        Py_XDECREF(entry);
        Py_XDECREF(offset);
    }
    if (result && !PyBytes_Check(result)) {
        Py_CLEAR(result);
        PyErr_SetString(PyExc_TypeError, "a server stub returned no bytes");
    }
    return result;
}

/* Run a procedure; return the bytes to answer with, and their kind. */
static PyObject *run_procedure(WorkerObject *self, uint32_t procedure, PyObject *data, long *kind)
{
    Py_ssize_t count = PySequence_Size(self->entries);
    if (count >= 0 && procedure >= (size_t)count) {
        *kind = NO_SUCH_PROCEDURE;
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    *kind = RESULTS;
    PyObject *result = count < 0 ? NULL : call_entry(self, procedure, data);
    if (result)
        return result;
    PyObject *error = raised(), *before = handle_error(error); /* also SystemExit: it is the call that ends */
    PyObject *told = PyObject_CallFunctionObjArgs(self->on_error, error, NULL);
    handled(before, error);
    if (told && PyArg_ParseTuple(told, "lS", kind, &result))
        Py_INCREF(result);
    Py_XDECREF(told);
    return result;
}

/* Run the procedures of calls, one after another. Returns (kind, results) where Python is to answer:
   with much that finds no room, or for a worker that is wanted elsewhere; None where the worker is free
   again; True where it lingers and no call has come. */
static PyObject *run_calls(WorkerObject *self, int64_t idle_ns)
{
    for (;;) {
        uint32_t procedure;
        PyObject *data;
        long kind;
        int found = next_call(self, self->spins, idle_ns, &procedure, &data);
        self->worker.lingers = self->spins = 0;
        if (found != COMPLETED)
            return found < 0 ? NULL : Py_NewRef(found == EXPIRED ? Py_True : Py_None);
        PyObject *result = run_procedure(self, procedure, data, &kind);
        Py_DECREF(data);
        Py_ssize_t waiting = result ? PyObject_Size(self->pending) : -1;
        if (waiting < 0) {
            Py_XDECREF(result);
            return NULL;
        }
        int64_t size = size_of(self->head) + PyBytes_Size(result);
        int waits = size >= self->large && !has_room(&self->binding->astacks[self->index], size);
        if (waiting || waits || atomic_load(&self->worker.leave))
            return Py_BuildValue("(lN)", kind, result);
        int stays = answer_with(self, kind, result, 1);
        Py_DECREF(result);
        if (stays <= 0)
            return stays < 0 ? NULL : Py_NewRef(Py_None);
        idle_ns = self->idle_ns;
    }
}

/* attach(binding, index, idle_ms, entries, on_error, pending, large, served) -> whether it could take the
   A-stack: `await_call` comes next */
static PyObject *worker_attach(PyObject *object, PyObject *args)
{
    WorkerObject *self = (WorkerObject *)object;
    PyObject *given, *entries, *on_error, *pending, *served;
    unsigned int index;
    long long idle_ms;
    Py_ssize_t large;
    if (!PyArg_ParseTuple(args, "O!ILOOOnO", binding_type, &given, &index, &idle_ms, &entries, &on_error, &pending, &large, &served))
        return NULL;
    if (!attach(self, given, index)) {
        PyObject *before = self->left;
        self->left = Py_NewRef(served);
        Py_XDECREF(before);
        Py_RETURN_FALSE;
    }
    self->served = Py_NewRef(served);
    self->entries = Py_NewRef(entries);
    self->on_error = Py_NewRef(on_error);
    self->pending = Py_NewRef(pending);
    self->stub = stub_of_entries(entries);
    self->idle_ns = idle_ms * MILLISECOND;
    self->large = large;
    self->spins = self->lends = 0;
    Py_RETURN_TRUE;
}

/* Parse what `reply` and `answer` are given, and answer. Returns as `answer_with`. */
static int answer_as_told(WorkerObject *self, PyObject *const *args)
{
    long kind = PyLong_AsLong(args[0]);
    int stay = PyObject_IsTrue(args[2]);
    return PyErr_Occurred() ? -1 : answer_with(self, kind, args[1], stay);
}

/* reply(kind, data, stay, idle_ms) -> as `run_calls`: answer, and run what comes next */
static PyObject *worker_reply(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    WorkerObject *self = (WorkerObject *)object;
    if (count != 4)
        return PyErr_SetString(PyExc_TypeError, "reply takes 4 arguments"), NULL;
    int64_t idle_ns = PyLong_AsLong(args[3]) * MILLISECOND;
    int stays = PyErr_Occurred() ? -1 : answer_as_told(self, args);
    if (stays <= 0)
        return stays < 0 ? NULL : Py_NewRef(Py_None);
    return run_calls(self, idle_ns);
}

/* answer(kind, data, stay) -> whether the worker stays, and calls `await_call` next: who answers so can
   let go of the results before it waits */
static PyObject *worker_answer(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3)
        return PyErr_SetString(PyExc_TypeError, "answer takes 3 arguments"), NULL;
    int stays = answer_as_told((WorkerObject *)object, args);
    return stays < 0 ? NULL : PyBool_FromLong(stays);
}

/* takes(size) -> 2 where results of so many bytes find room, 1 where they would be kept, else 0 */
static PyObject *worker_takes(PyObject *object, PyObject *number)
{
    WorkerObject *self = (WorkerObject *)object;
    int64_t size = PyLong_AsLongLong(number) + size_of(self->head);
    if (PyErr_Occurred())
        return NULL;
    if (!self->binding || !is_live(self->binding))
        return PyLong_FromLong(2); /* or nobody is there to want them */
    AStack *one = &self->binding->astacks[self->index];
    return PyLong_FromLong(has_room(one, size) ? 2 : may_keep(self->binding, size));
}

static PyObject *await_next(WorkerObject *self, PyObject *number, int lingers)
{
    int64_t idle_ns = PyLong_AsLong(number) * MILLISECOND;
    if (PyErr_Occurred())
        return NULL;
    if (self->binding && self->entries && self->binding->generation == generation) {
        self->worker.lingers = lingers;
        return run_calls(self, idle_ns);
    }
    detach(self);
    Py_RETURN_NONE;
}

/* await_call(idle_ms) -> as `run_calls` */
static PyObject *worker_await(PyObject *object, PyObject *number) { return await_next((WorkerObject *)object, number, 0); }

/* linger(idle_ms) -> likewise, but True where nothing has come: `await_call` is to follow */
static PyObject *worker_linger(PyObject *object, PyObject *number) { return await_next((WorkerObject *)object, number, 1); }

/* dismiss(): have the worker leave its A-stack, once it waits; welcome(): undo that */
static PyObject *worker_dismiss(PyObject *object, PyObject *unused)
{
    WorkerObject *self = (WorkerObject *)object;
    (void)unused;
    atomic_store(&self->worker.leave, 1);
    raise_alarm(&self->worker.alarm);
    Py_RETURN_NONE;
}

static PyObject *worker_welcome(PyObject *object, PyObject *unused)
{
    (void)unused;
    atomic_store(&((WorkerObject *)object)->worker.leave, 0);
    Py_RETURN_NONE;
}

static PyObject *worker_busy(PyObject *object, void *unused)
{
    WorkerObject *self = (WorkerObject *)object;
    (void)unused;
    return PyBool_FromLong(self->binding && self->binding->astacks[self->index].linkage.busy);
}

static PyObject *worker_since(PyObject *object, void *unused)
{
    (void)unused;
    WorkerObject *self = (WorkerObject *)object;
    int watched = self->worker.listed || (self->binding && atomic_load(&own_linkage(self)->holder) != OWN);
    return PyLong_FromLongLong(watched ? now_ns() : self->worker.since);
}

/* owner: who is at the other end of what it attends, 0 for none */
static PyObject *worker_owner(PyObject *object, void *unused)
{
    WorkerObject *self = (WorkerObject *)object;
    (void)unused;
    return PyLong_FromLongLong(self->binding ? self->binding->owner : 0);
}

/* pop_left() -> what Python has for the binding that it left last, once; None for none */
static PyObject *worker_pop_left(PyObject *object, PyObject *unused)
{
    PyObject *left = ((WorkerObject *)object)->left;
    (void)unused;
    ((WorkerObject *)object)->left = NULL;
    return left ? left : Py_NewRef(Py_None);
}

static PyGetSetDef worker_properties[] = {
    {"owner", worker_owner, NULL, NULL, NULL},
    {"busy", worker_busy, NULL, NULL, NULL}, {"since_ns", worker_since, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef worker_methods[] = {
    {"serve", worker_serve, METH_VARARGS, NULL},
    {"attach", worker_attach, METH_VARARGS, NULL},
    {"reply", (PyCFunction)(void (*)(void))worker_reply, METH_FASTCALL, NULL},
    {"answer", (PyCFunction)(void (*)(void))worker_answer, METH_FASTCALL, NULL},
    {"takes", worker_takes, METH_O, NULL},
    {"await_call", worker_await, METH_O, NULL},
    {"linger", worker_linger, METH_O, NULL},
    {"pop_left", worker_pop_left, METH_NOARGS, NULL},
    {"dismiss", worker_dismiss, METH_NOARGS, NULL},
    {"welcome", worker_welcome, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot worker_slots[] = {{Py_tp_new, worker_new}, {Py_tp_dealloc, worker_dealloc}, {Py_tp_methods, worker_methods}, {Py_tp_getset, worker_properties}, {0, NULL}};
static PyType_Spec worker_spec = {"lrpc.kernel.host.native.Worker", sizeof(WorkerObject), 0, Py_TPFLAGS_DEFAULT, worker_slots};

/* --- the module ------------------------------------------------------------------------------- */

static PyObject *module_now(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromLongLong(now_ns());
}

/* allow_spinning(workers): how many workers of this process may spin at a time; 0: nothing spins */
static PyObject *module_allow_spinning(PyObject *module, PyObject *number)
{
    long most = PyLong_AsLong(number);
    (void)module;
    if (most == -1 && PyErr_Occurred())
        return NULL;
    atomic_store(&spinners_most, (uint32_t)(most > 0 ? most : 0));
    Py_RETURN_NONE;
}

/* keep_results(most, for_one, told): keep as many bytes of results that await room, in all and for one
   client; call `told` where something is kept */
static PyObject *module_keep_results(PyObject *module, PyObject *args)
{
    long long most, for_one;
    PyObject *told;
    (void)module;
    if (!PyArg_ParseTuple(args, "LLO", &most, &for_one, &told))
        return NULL;
    most_kept = most;
    most_kept_for_one = for_one;
    PyObject *before = on_kept;
    on_kept = Py_NewRef(told);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

/* drop_kept(before_ns) -> bytes of results that are kept; those are dropped that were kept before.
   Free memory goes back to the system. */
static PyObject *module_drop_kept(PyObject *module, PyObject *number)
{
    int64_t before = PyLong_AsLongLong(number);
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    int64_t left = drop_kept(NULL, before);
#ifdef __GLIBC__
    Py_BEGIN_ALLOW_THREADS
    malloc_trim(0); /* each thread's heap would hold on to the last results that it had */
    Py_END_ALLOW_THREADS
#endif
    return PyLong_FromLongLong(left);
}

/* end_held(after_ns): end a binding whose server holds the A-stack of an aborted call for so long */
static PyObject *module_end_held(PyObject *module, PyObject *number)
{
    int64_t most = PyLong_AsLongLong(number);
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    most_held_ns = most;
    Py_RETURN_NONE;
}

/* forbid_waitv(): wait as on a Linux without futex_waitv, from now on */
static PyObject *module_forbid_waitv(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    atomic_store(&waitv_missing, 1);
    Py_RETURN_NONE;
}

/* floor(address, serves, rounds, spins, cpu): one side of a ping-pong over two words of a mapping;
   returns the round trips in nanoseconds, on the side that does not serve */
static PyObject *module_floor(PyObject *module, PyObject *args)
{
    Py_buffer view;
    int serves, spins, cpu;
    Py_ssize_t rounds;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*pnpi", &view, &serves, &rounds, &spins, &cpu))
        return NULL;
    int64_t *times = calloc((size_t)rounds + 1, sizeof *times);
    if (view.len < 256 || !times) {
        free(times);
        PyBuffer_Release(&view);
        return PyErr_NoMemory();
    }
    cpu_set_t before, one;
    sched_getaffinity(0, sizeof before, &before);
    if (cpu >= 0) {
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
    }
    Py_BEGIN_ALLOW_THREADS
    _Atomic uint32_t *in = (_Atomic uint32_t *)((uint8_t *)view.buf + (serves ? 0 : 128));
    _Atomic uint32_t *out = (_Atomic uint32_t *)((uint8_t *)view.buf + (serves ? 128 : 0));
    for (Py_ssize_t round = 1; round <= rounds; round++) {
        int64_t start = now_ns();
        for (int half = 0; half < 2; half++) {
            if (half == serves) {
                atomic_store(out, (uint32_t)round);
                if (!spins)
                    futex_wake(out, 1, 1);
            } else
                for (uint32_t now; (now = atomic_load(in)) != (uint32_t)round;) {
                    if (spins)
                        relax();
                    else
                        syscall(SYS_futex, in, FUTEX_WAIT, now, NULL, NULL, 0);
                }
        }
        times[round - 1] = now_ns() - start;
    }
    Py_END_ALLOW_THREADS
    sched_setaffinity(0, sizeof before, &before);
    PyBuffer_Release(&view);
    PyObject *list = PyList_New(rounds);
    for (Py_ssize_t i = 0; list && i < rounds; i++)
        PyList_SetItem(list, i, PyLong_FromLongLong(times[i]));
    free(times);
    return list;
}

/* attended() -> the A-stack that this thread attends, as a worker */
static PyObject *module_attended(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromUnsignedLong(attended);
}

static PyMethodDef functions[] = {
    {"now_ns", module_now, METH_NOARGS, NULL},
    {"attended", module_attended, METH_NOARGS, NULL},
    {"allow_spinning", module_allow_spinning, METH_O, NULL},
    {"keep_results", module_keep_results, METH_VARARGS, NULL},
    {"drop_kept", module_drop_kept, METH_O, NULL},
    {"end_held", module_end_held, METH_O, NULL},
    {"forbid_waitv", module_forbid_waitv, METH_NOARGS, NULL},
    {"floor", module_floor, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    static int forks;
    if (!forks && pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child))
        return -1;
    forks = 1;
    atomic_store(&miss_budget, MISSES_SAVED);
    atomic_store(&miss_budget_at, now_ns());
    binding_type = (PyTypeObject *)PyType_FromSpec(&binding_spec);
    way_type = (PyTypeObject *)PyType_FromSpec(&way_spec);
    PyObject *worker = PyType_FromSpec(&worker_spec), *stub = PyType_FromSpec(&stub_spec), *handler = PyType_FromSpec(&handler_spec);
    if (intern_names() || !binding_type || !way_type || !worker || !stub || !handler || PyModule_AddObjectRef(module, "Binding", (PyObject *)binding_type)
        || PyModule_AddObjectRef(module, "Way", (PyObject *)way_type) || PyModule_AddObjectRef(module, "Worker", worker)
        || PyModule_AddObjectRef(module, "Stub", stub) || PyModule_AddObjectRef(module, "HandlerStub", handler))
        return -1;
    Py_DECREF(worker);
    Py_DECREF(stub);
    Py_DECREF(handler);
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "native", "The native part of the host kernel.", 0, functions, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_native(void) { return PyModuleDef_Init(&definition); }
