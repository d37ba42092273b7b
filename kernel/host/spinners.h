/* Who spins, who lends, and who goes over: what of lending.h is decided under the interpreter lock, by
   the workers of one domain among themselves. */

#ifndef LRPC_SPINNERS_H
#define LRPC_SPINNERS_H

static Linkage *own_linkage(WorkerObject *self) { return &self->binding->astacks[self->index].linkage; }

/* Have an A-stack be lent to a worker no more; needs `watch_lock`. Returns the reference to its binding. */
static PyObject *drop_lent(Worker *worker, uint32_t at)
{
    PyObject *binding = worker->lent[at].binding;
    uint32_t last = atomic_load(&worker->lent_count) - 1;
    worker->lent[at] = worker->lent[last];
    atomic_store(&worker->lent_count, last);
    return binding;
}

/* Drop what others have back by now. The worker is about to run a procedure, or in one: it scans nothing. */
static void drop_owned(Worker *worker)
{
    for (uint32_t at = 0; at < atomic_load(&worker->lent_count);) {
        if (atomic_load(&worker->lent[at].linkage->holder) != OWN) {
            at++;
            continue;
        }
        pthread_mutex_lock(&watch_lock);
        PyObject *binding = drop_lent(worker, at);
        pthread_mutex_unlock(&watch_lock);
        Py_DECREF(binding);
    }
}

/* Have those who are in a procedure know no binding that ends meanwhile. */
static void drop_from_busy(void)
{
    for (uint32_t i = 0; i < atomic_load(&spinners); i++)
        if (atomic_load(&own_linkage(listed[i])->busy))
            drop_owned(&listed[i]->worker);
}

/* Stop spinning, for a second at least, after a procedure that others did not wait for. */
static void check_held_up(WorkerObject *self)
{
    Linkage *linkage = own_linkage(self);
    if (!atomic_load(&self->worker.held_up))
        return;
    atomic_store(&self->worker.held_up, 0);
    linkage->again_at = now_ns() + SECOND;
    linkage->lends = 0;
    stop_spinning(linkage);
}

/* Spin for others no more: they have back what they lent, and are woken. */
static void unlist(WorkerObject *self)
{
    PyObject *dropped[MOST_LENT];
    uint32_t count = 0;
    if (!self->worker.listed)
        return;
    pthread_mutex_lock(&watch_lock);
    self->worker.listed = 0;
    uint32_t last = atomic_load(&spinners);
    for (uint32_t i = 0; i < last; i++)
        if (listed[i] == self)
            listed[i--] = listed[--last];
    atomic_store(&spinners, last);
    while (atomic_load(&self->worker.lent_count)) {
        Linkage *linkage = self->worker.lent[0].linkage;
        int holder = LENT;
        if (atomic_compare_exchange_strong(&linkage->holder, &holder, OWN))
            raise_alarm(&linkage->worker->alarm);
        dropped[count++] = drop_lent(&self->worker, 0);
    }
    pthread_mutex_unlock(&watch_lock);
    while (count)
        Py_DECREF(dropped[--count]);
}

/* Let a worker spin, and others lend it their A-stacks. Returns whether it may. */
static int enlist(WorkerObject *self)
{
    if (self->worker.listed)
        return 1;
    pthread_mutex_lock(&watch_lock);
    uint32_t at = atomic_load(&spinners), most = atomic_load(&spinners_most);
    if (at < (most < MOST_SPINNERS ? most : MOST_SPINNERS)) {
        listed[at] = self;
        atomic_store(&spinners, at + 1);
        self->worker.listed = 1;
        atomic_store(&self->worker.held_up, 0);
    }
    pthread_mutex_unlock(&watch_lock);
    return self->worker.listed;
}

/* Take the place of those who are in a procedure for which somebody has waited too long. */
static void displace(void)
{
    for (uint32_t i = 0; i < atomic_load(&spinners);)
        if (atomic_load(&listed[i]->worker.held_up) && atomic_load(&own_linkage(listed[i])->busy))
            unlist(listed[i]); /* another stands there now */
        else
            i++;
}

/* Return who else spins in the same domain, holds nobody up, and has the fewest A-stacks that are lent to
   it; NULL for nobody. */
static WorkerObject *find_spinner(const WorkerObject *self)
{
    WorkerObject *found = NULL;
    uint32_t least = MOST_LENT;
    for (uint32_t i = 0; i < atomic_load(&spinners); i++) {
        WorkerObject *one = listed[i];
        uint32_t count = atomic_load(&one->worker.lent_count);
        if (one == self || one->pending != self->pending || atomic_load(&one->worker.held_up) || count >= least)
            continue;
        found = one;
        least = count;
    }
    return found;
}

/* Lend the worker's A-stack to one that spins, if there is one. */
static void lend(WorkerObject *self)
{
    WorkerObject *to = find_spinner(self);
    Linkage *linkage = own_linkage(self);
    if (!to)
        return;
    Worker *worker = &to->worker;
    note_done(&self->worker, linkage);
    if (linkage->ran_ns >= LONG_NS)
        return;
    linkage->wants_back = 0;
    pthread_mutex_lock(&watch_lock);
    uint32_t count = atomic_load(&worker->lent_count), at = 0;
    while (at < count && worker->lent[at].linkage != linkage)
        at++; /* it may be there still, from the last time */
    if (at == count) {
        worker->lent[at] = (Lent){linkage, Py_NewRef((PyObject *)self->binding), 0};
        atomic_store(&worker->lent_count, count + 1);
    }
    atomic_store(&linkage->holder, LENT);
    int kicks = !ticking;
    ticking = 1;
    pthread_mutex_unlock(&watch_lock);
    uint64_t one = 1;
    if (kicks && write(kick, &one, sizeof one) < 0)
        recall(linkage); /* nobody would look at it */
}

static void swap(PyObject **one, PyObject **other)
{
    PyObject *was = *one;
    *one = *other;
    *other = was;
}

/* Go over to the lent A-stack whose call the worker has taken. Who slept there attends the old one. */
static void go_over(WorkerObject *self)
{
    Worker *worker = &self->worker;
    Lent *lent = &worker->lent[worker->took];
    Binding *from = self->binding, *to = lent->binding;
    Linkage *old = own_linkage(self), *new = lent->linkage;
    WorkerObject *other = (WorkerObject *)((char *)new->worker - offsetof(WorkerObject, worker));
    uint32_t index = self->index;
    pthread_mutex_lock(&watch_lock);
    new->spinning = old->spinning;
    new->spin_since = old->spin_since;
    new->spun_calls = old->spun_calls;
    new->misses = old->spinning = old->wants_back = 0;
    old->taken_at = 0;
    old->worker = &other->worker;
    new->worker = worker;
    *lent = (Lent){old, from, 0};
    self->binding = to;
    self->index = other->index;
    other->binding = (Binding *)Py_NewRef((PyObject *)from);
    other->index = index;
    swap(&self->entries, &other->entries);
    swap(&self->served, &other->served);
    swap(&self->stub, &other->stub);
    atomic_store(&old->holder, LENT);
    atomic_store(&new->holder, OWN);
    int wakes = new->wants_back || atomic_load(&from->ends.ended);
    pthread_mutex_unlock(&watch_lock);
    if (wakes)
        raise_alarm(&other->worker.alarm);
    worker->took = -1;
    to->ends.spun++;
    to->ends.lent++;
    Py_DECREF(to); /* which the other had */
}

/* Give back a lent A-stack that turned out to have no call: it was withdrawn, or its client has spoilt the
   word. */
static void give_back(WorkerObject *self, int broken)
{
    Lent *lent = &self->worker.lent[self->worker.took];
    self->worker.took = -1;
    if (broken)
        end_binding(lent->binding, PEER_BROKEN);
    pthread_mutex_lock(&watch_lock);
    atomic_store(&lent->linkage->holder, OWN);
    raise_alarm(&lent->linkage->worker->alarm);
    pthread_mutex_unlock(&watch_lock);
}

/* Sleep while the A-stack is lent: until it is given back, or the worker has idled, is dismissed, or the
   binding has ended. */
static void await_own(WorkerObject *self, int64_t idle_ns)
{
    for (int64_t until = 0;;) {
        uint32_t alarm = atomic_load(&self->worker.alarm);
        if (atomic_load(&own_linkage(self)->holder) == OWN)
            return;
        int64_t now = now_ns();
        until = until ? until : now + idle_ns;
        if (now >= until || atomic_load(&self->worker.leave) || atomic_load(&self->binding->ends.ended)) {
            if (recall(own_linkage(self)))
                return;
            own_linkage(self)->wants_back = 1;
        }
        Py_BEGIN_ALLOW_THREADS
        sleep_on_alarm(&self->worker.alarm, alarm, now < until ? until : now + SECOND);
        Py_END_ALLOW_THREADS
    }
}

#endif
