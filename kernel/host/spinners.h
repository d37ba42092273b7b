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

/* Drop what others have back by now. Where that was since a procedure took long, let them spin. */
static void drop_recalled(WorkerObject *self)
{
    Worker *worker = &self->worker;
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
    if (worker->listed && atomic_exchange(&worker->held_up, 0)) {
        own_linkage(self)->again_at = now_ns() + SECOND;
        stop_spinning(own_linkage(self));
    }
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
    for (uint32_t i = 0; i < listed_count; i++)
        if (listed[i] == self)
            listed[i--] = listed[--listed_count];
    while (atomic_load(&self->worker.lent_count)) {
        Linkage *linkage = self->worker.lent[0].linkage;
        int holder = LENT;
        if (atomic_compare_exchange_strong(&linkage->holder, &holder, OWN) && linkage->worker)
            raise_alarm(&linkage->worker->alarm);
        dropped[count++] = drop_lent(&self->worker, 0);
    }
    pthread_mutex_unlock(&watch_lock);
    while (count)
        Py_DECREF(dropped[--count]);
}

/* Let others lend this worker their A-stacks, while it spins. */
static void enlist(WorkerObject *self)
{
    pthread_mutex_lock(&watch_lock);
    if (listed_count < MOST_SPINNERS) {
        listed[listed_count++] = self;
        self->worker.listed = 1;
        atomic_store(&self->worker.held_up, 0);
    }
    pthread_mutex_unlock(&watch_lock);
}

/* Return who else spins in the same domain, with the fewest A-stacks that are lent to it; NULL for nobody. */
static WorkerObject *find_spinner(const WorkerObject *self)
{
    WorkerObject *found = NULL;
    uint32_t least = MOST_LENT;
    for (uint32_t i = 0; i < listed_count; i++) {
        uint32_t count = atomic_load(&listed[i]->worker.lent_count);
        if (listed[i] == self || listed[i]->pending != self->pending || count >= least)
            continue;
        found = listed[i];
        least = count;
    }
    return found;
}

/* Lend the worker's A-stack to one that spins, if there is one by now. */
static void lend(WorkerObject *self)
{
    WorkerObject *to = find_spinner(self);
    if (!to)
        return;
    Worker *worker = &to->worker;
    pthread_mutex_lock(&watch_lock);
    uint32_t at = atomic_load(&worker->lent_count);
    worker->lent[at] = (Lent){&self->binding->ends, own_linkage(self), Py_NewRef((PyObject *)self->binding), self->index, 0};
    atomic_store(&own_linkage(self)->holder, LENT);
    atomic_store(&worker->lent_count, at + 1);
    pthread_mutex_unlock(&watch_lock);
    uint64_t one = 1;
    if (!at && write(kick, &one, sizeof one) < 0)
        recall(own_linkage(self)); /* nobody would look at it */
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
    uint32_t index = lent->index;
    pthread_mutex_lock(&watch_lock);
    new->spinning = old->spinning;
    new->spin_since = old->spin_since;
    new->spun_calls = old->spun_calls;
    new->misses = new->taken_at = old->spinning = 0;
    old->worker = &other->worker;
    new->worker = worker;
    *lent = (Lent){&from->ends, old, from, self->index, 0};
    other->binding = (Binding *)Py_NewRef((PyObject *)from);
    other->index = self->index;
    self->binding = to;
    self->index = index;
    swap(&self->entries, &other->entries);
    swap(&self->served, &other->served);
    atomic_store(&old->holder, LENT);
    int holder = atomic_exchange(&new->holder, OWN);
    pthread_mutex_unlock(&watch_lock);
    if (holder == RECALLED)
        raise_alarm(&other->worker.alarm);
    worker->took = -1;
    to->ends.spun++;
    to->ends.lent++;
    Py_DECREF(to); /* which the other had */
}

/* Give back a lent A-stack without having a call of it, since its worker wants it, or its client has
   spoilt it. */
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
        int leaves = now >= until || atomic_load(&self->worker.leave) || atomic_load(&self->binding->ends.ended);
        if (leaves && recall(own_linkage(self)))
            return;
        Py_BEGIN_ALLOW_THREADS
        sleep_on_alarm(&self->worker.alarm, alarm, now < until ? until : now + SECOND);
        Py_END_ALLOW_THREADS
    }
}

#endif
