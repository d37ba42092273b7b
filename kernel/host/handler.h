/* The server's stub of methods that take one message and return one, in machine code. What handles a
   call, and what turns its messages into objects and back, is the user's: three callables, the steps
   of the method. A call is usual where it begins with a head that Python has said to expect, with the
   method's steps. Every other one is Python's, and so is whatever goes wrong with a usual one. */

#ifndef LRPC_HANDLER_H
#define LRPC_HANDLER_H

#define MOST_EXPECTED 16 /* heads; then the oldest is forgotten */

static __thread uint32_t attended; /* the A-stack that this thread attends, of the binding that it serves */

/* What is asked of contexts, owners and pools. */
enum { BINDING, INDEX, SAID, CANCELLED, FINISHED, CALLBACKS, STOPPING, SHUTDOWN, HANDLE, RUN, NAMES };
static const char *const spelled[NAMES] = {"_binding", "_index", "said", "cancelled", "finished", "callbacks", "stopping", "_shutdown", "handle", "run"};
static PyObject *names[NAMES];

static int intern_names(void)
{
    for (int i = 0; i < NAMES; i++)
        if (!names[i] && !(names[i] = PyUnicode_InternFromString(spelled[i])))
            return -1;
    return 0;
}

typedef struct {
    PyObject_HEAD
    PyObject *owner;     /* of the methods: is told what goes wrong */
    PyObject *unusual;   /* takes every other call, and the stub */
    PyObject *binding;   /* what Python has for it */
    PyTypeObject *context;
    PyObject *fresh;     /* makes what a handler runs in */
    PyObject *take, *leave, *executor; /* a permit to run; the pool for which it is given, weakly */
    PyObject *answer;    /* the head of a reply that says that nothing went wrong */
    Py_ssize_t most_received, most_sent; /* bytes of a message */
    PyObject *heads[MOST_EXPECTED + 1], *steps[MOST_EXPECTED]; /* NULL ends the heads */
    uint32_t next;
} HandlerStub;

/* HandlerStub(owner, unusual, binding, context, fresh, take, leave, executor, answer, most_received, most_sent) */
static int handler_init(PyObject *object, PyObject *args, PyObject *unused)
{
    HandlerStub *self = (HandlerStub *)object;
    PyObject *owner, *unusual, *binding, *context, *fresh, *take, *leave, *executor, *answer;
    Py_ssize_t received, sent;
    (void)unused;
    if (!PyArg_ParseTuple(args, "OOOO!OOOOSnn", &owner, &unusual, &binding, &PyType_Type, &context, &fresh, &take, &leave,
                          &executor, &answer, &received, &sent))
        return -1;
    if (self->owner) {
        PyErr_SetString(PyExc_TypeError, "a stub is made once");
        return -1;
    }
    self->owner = Py_NewRef(owner);
    self->unusual = Py_NewRef(unusual);
    self->binding = Py_NewRef(binding);
    self->context = (PyTypeObject *)Py_NewRef(context);
    self->fresh = Py_NewRef(fresh);
    self->take = Py_NewRef(take);
    self->leave = Py_NewRef(leave);
    self->executor = Py_NewRef(executor);
    self->answer = Py_NewRef(answer);
    self->most_received = received;
    self->most_sent = sent;
    return 0;
}

static int same_bytes(PyObject *one, PyObject *other)
{
    Py_ssize_t size = PyBytes_Size(one);
    return size == PyBytes_Size(other) && !memcmp(PyBytes_AsString(one), PyBytes_AsString(other), (size_t)size);
}

/* expect(head, steps): calls that begin so are usual */
static PyObject *handler_expect(PyObject *object, PyObject *args)
{
    HandlerStub *self = (HandlerStub *)object;
    PyObject *head, *steps;
    if (!PyArg_ParseTuple(args, "SO!", &head, &PyTuple_Type, &steps))
        return NULL;
    if (PyTuple_Size(steps) != 3)
        return PyErr_SetString(PyExc_TypeError, "a method has three steps"), NULL;
    uint32_t at = 0;
    while (at < MOST_EXPECTED && self->heads[at] && !same_bytes(self->heads[at], head))
        at++;
    if (at == MOST_EXPECTED)
        at = self->next++ % MOST_EXPECTED;
    PyObject *old_head = self->heads[at], *old_steps = self->steps[at];
    self->heads[at] = Py_NewRef(head);
    self->steps[at] = Py_NewRef(steps);
    Py_XDECREF(old_head);
    Py_XDECREF(old_steps);
    Py_RETURN_NONE;
}

/* Return whether an attribute is true; -1 with a Python error set. */
static int is_set(PyObject *object, int name)
{
    PyObject *value = PyObject_GetAttr(object, names[name]);
    if (!value)
        return -1;
    int found = value == Py_True ? 1 : value == Py_False ? 0 : PyObject_IsTrue(value);
    Py_DECREF(value);
    return found;
}

/* Ask the owner for the reply to a call with which something is unusual; `error`, where there is one,
   is what was raised, and is taken over. It is then being handled, as where Python catches it. */
static PyObject *told(PyObject *owner, const char *what, PyObject *context, PyObject *error)
{
    if (!error)
        return PyObject_CallMethod(owner, what, "OO", context, Py_None);
    PyObject *before = handle_error(error), *reply = PyObject_CallMethod(owner, what, "OO", context, error);
    handled(before, error);
    return reply;
}

/* Return what lies behind a head, with it. */
static PyObject *joined(PyObject *head, PyObject *data)
{
    if (!head)
        return Py_NewRef(data);
    Py_ssize_t before = PyBytes_Size(head), size = PyBytes_Size(data);
    PyObject *found = PyBytes_FromStringAndSize(NULL, before + size);
    if (found) {
        memcpy(PyBytes_AsString(found), PyBytes_AsString(head), (size_t)before);
        memcpy(PyBytes_AsString(found) + before, PyBytes_AsString(data), (size_t)size);
    }
    return found;
}

/* Return whether a reply is a message behind `answer`, see `handle`. */
static int is_apart(PyObject *reply)
{
    return PyTuple_Check(reply) && PyTuple_Size(reply) == 1 && PyBytes_CheckExact(PyTuple_GetItem(reply, 0));
}

/* Return the reply that a response makes, see `handle`. Takes the response over. */
static PyObject *reply_of(HandlerStub *self, PyObject *serialize, PyObject *context, PyObject *response, int apart)
{
    int said = is_set(context, SAID), cancelled = said > 0 ? is_set(context, CANCELLED) : 0;
    PyObject *data = NULL, *reply = NULL;
    if (said < 0 || cancelled < 0)
        goto done;
    if (cancelled) {
        reply = told(self->owner, "_cancelled", context, NULL);
        goto done;
    }
    data = serialize == Py_None ? Py_NewRef(response) : PyObject_CallFunctionObjArgs(serialize, response, NULL);
    if (!data) {
        PyObject *error = caught();
        if (error)
            reply = told(self->owner, "_unsent", context, error);
        goto done;
    }
    if (!PyBytes_Check(data)) {
        reply = told(self->owner, "_unsent", context, NULL);
        goto done;
    }
    if (said || PyBytes_Size(data) > self->most_sent) {
        reply = PyObject_CallMethod(self->owner, "_answered", "OO", context, data);
        goto done;
    }
    reply = apart && PyBytes_CheckExact(data) ? PyTuple_Pack(1, data) : joined(self->answer, data);
done:
    Py_DECREF(response);
    Py_XDECREF(data);
    return reply;
}

/* handle(steps, context, message[, apart]) -> the reply: run a method's steps. With `apart`, a reply that is
   a message behind `answer` is a tuple with the message alone. */
static PyObject *handler_handle(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    HandlerStub *self = (HandlerStub *)object;
    if (count < 3 || count > 4 || !self->owner || !PyTuple_Check(args[0]) || PyTuple_Size(args[0]) != 3)
        return PyErr_SetString(PyExc_TypeError, "handle takes a method's three steps, a context, and a message"), NULL;
    PyObject *steps = args[0], *context = args[1], *request = args[2], *deserialize = PyTuple_GetItem(steps, 0), *error;
    if (deserialize == Py_None)
        Py_INCREF(request);
    else {
        request = PyObject_CallFunctionObjArgs(deserialize, request, NULL);
        if (!request) {
            error = caught();
            return error ? told(self->owner, "_unread", context, error) : NULL;
        }
        if (request == Py_None) {
            Py_DECREF(request);
            return told(self->owner, "_unread", context, NULL);
        }
    }
    PyObject *response = PyObject_CallFunctionObjArgs(PyTuple_GetItem(steps, 1), request, context, NULL);
    Py_DECREF(request);
    if (!response) {
        error = caught();
        return error ? told(self->owner, "_raised", context, error) : NULL;
    }
    return reply_of(self, PyTuple_GetItem(steps, 2), context, response, count == 4 && args[3] == Py_True);
}

/* Return whether the pool, for whose threads the worker stands, still takes calls; -1 on an error. */
static int takes_calls(HandlerStub *self)
{
    PyObject *executor = PyObject_CallNoArgs(self->executor);
    if (!executor)
        return -1;
    int found = executor == Py_None ? 1 : is_set(executor, SHUTDOWN); /* it is gone, or shut down */
    Py_DECREF(executor);
    return found < 0 ? -1 : !found;
}

/* Return a context as it is of a call without metadata or deadline: the class has all else. */
static PyObject *new_context(HandlerStub *self)
{
    PyObject *none = PyTuple_New(0), *index = PyLong_FromUnsignedLong(attended), *context = NULL;
    newfunc new = (newfunc)PyType_GetSlot(self->context, Py_tp_new);
    if (none && index)
        context = new (self->context, none, NULL);
    if (context && (PyObject_SetAttr(context, names[BINDING], self->binding) || PyObject_SetAttr(context, names[INDEX], index)))
        Py_CLEAR(context);
    Py_XDECREF(none);
    Py_XDECREF(index);
    return context;
}

/* Note that the call of a context is over, and have its callbacks called. */
static int finish(PyObject *context)
{
    if (PyObject_SetAttr(context, names[FINISHED], Py_True))
        return -1;
    PyObject *callbacks = PyObject_GetAttr(context, names[CALLBACKS]), *called = NULL;
    if (callbacks && callbacks != Py_None)
        called = PyObject_CallMethod(context, "call_back", NULL);
    else if (callbacks)
        called = Py_NewRef(Py_None);
    Py_XDECREF(callbacks);
    Py_XDECREF(called);
    return called ? 0 : -1;
}

/* Give the permit back, and finish the call of a context where there is one. Takes the reply over and
   returns it; an exception that is raised stays, but where this raises another. */
static PyObject *let_go(HandlerStub *self, PyObject *context, PyObject *reply)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *left = PyObject_CallNoArgs(self->leave);
    int failed = (context && finish(context)) || !left;
    Py_XDECREF(left);
    if (!failed) {
        PyErr_Restore(type, value, traceback);
        return reply;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    Py_XDECREF(reply);
    return NULL;
}

/* Make a usual call; its reply is apart, see `handle`. Returns NULL without an error where it is Python's
   after all. */
static PyObject *handle_usual(HandlerStub *self, PyObject *steps, PyObject *message)
{
    PyObject *taken = PyObject_CallNoArgs(self->take); /* waits until a handler may run */
    if (!taken)
        return NULL;
    Py_DECREF(taken);
    int takes = takes_calls(self);
    if (takes <= 0)
        return let_go(self, NULL, NULL);
    PyObject *context = new_context(self), *run = context ? PyObject_CallNoArgs(self->fresh) : NULL;
    PyObject *handle = run ? PyObject_GetAttr((PyObject *)self, names[HANDLE]) : NULL, *reply = NULL;
    if (handle)
        reply = PyObject_CallMethodObjArgs(run, names[RUN], handle, steps, context, message, Py_True, NULL);
    Py_XDECREF(handle);
    Py_XDECREF(run);
    reply = let_go(self, context, reply);
    Py_XDECREF(context);
    return reply;
}

/* Return the reply to a call, which may be apart: see `handle`. Its message was read behind the head of
   that number; or `data` is all of its bytes, for 0. */
static PyObject *reply_to(HandlerStub *self, int behind, PyObject *data)
{
    PyObject *head = NULL, *steps = NULL, *reply = NULL;
    if (!self->owner)
        return PyErr_SetString(PyExc_TypeError, "a stub without an owner takes no calls"), NULL;
    if (behind) { /* what is asked of the owner may change what is expected */
        head = Py_NewRef(self->heads[behind - 1]);
        steps = Py_NewRef(self->steps[behind - 1]);
        if (!is_set(self->owner, STOPPING))
            reply = handle_usual(self, steps, data);
    }
    if (!reply && !PyErr_Occurred()) {
        PyObject *whole = joined(head, data);
        if (whole)
            reply = PyObject_CallFunction(self->unusual, "OOi", self, whole, 0); /* it need not know the stub */
        Py_XDECREF(whole);
    }
    Py_XDECREF(head);
    Py_XDECREF(steps);
    return reply;
}

/* enter(data, offset) -> the reply to a call, all of whose bytes `data` is */
static PyObject *handler_enter(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    HandlerStub *self = (HandlerStub *)object;
    if (count != 2 || !PyBytes_Check(args[0]))
        return PyErr_SetString(PyExc_TypeError, "enter takes the bytes of a call, and an offset"), NULL;
    const uint8_t *from = (const uint8_t *)PyBytes_AsString(args[0]);
    size_t size = (size_t)PyBytes_Size(args[0]);
    int behind = head_of(self->heads, from, size, (size_t)self->most_received);
    size_t before = behind ? (size_t)PyBytes_Size(self->heads[behind - 1]) : 0;
    PyObject *message = copied(from + before, size - before), *reply = message ? reply_to(self, behind, message) : NULL;
    Py_XDECREF(message);
    if (!reply || !is_apart(reply))
        return reply;
    PyObject *whole = joined(self->answer, PyTuple_GetItem(reply, 0));
    Py_DECREF(reply);
    return whole;
}

static const PyCFunction enter_function = (PyCFunction)(void (*)(void))handler_enter;

/* Return the stub whose `enter` is the first of some entries; NULL where that is another. */
static PyObject *stub_of_entries(PyObject *entries)
{
    PyObject *first = PySequence_GetItem(entries, 0), *found = NULL;
    if (!first)
        PyErr_Clear(); /* there is none */
    else if (PyCFunction_Check(first) && PyCFunction_GetFunction(first) == enter_function)
        found = Py_NewRef(PyCFunction_GetSelf(first));
    Py_XDECREF(first);
    return found;
}

static int handler_traverse(PyObject *object, visitproc visit, void *arg)
{
    HandlerStub *self = (HandlerStub *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->owner);
    Py_VISIT(self->unusual);
    Py_VISIT(self->binding);
    Py_VISIT((PyObject *)self->context);
    Py_VISIT(self->fresh);
    Py_VISIT(self->take);
    Py_VISIT(self->leave);
    Py_VISIT(self->executor);
    for (int i = 0; i < MOST_EXPECTED; i++)
        Py_VISIT(self->steps[i]);
    return 0;
}

static int handler_clear(PyObject *object)
{
    HandlerStub *self = (HandlerStub *)object;
    PyObject *context = (PyObject *)self->context;
    for (int i = 0; i < MOST_EXPECTED; i++) {
        Py_CLEAR(self->heads[i]);
        Py_CLEAR(self->steps[i]);
    }
    self->context = NULL;
    Py_XDECREF(context);
    Py_CLEAR(self->owner); /* no call is taken from now on */
    Py_CLEAR(self->unusual);
    Py_CLEAR(self->binding);
    Py_CLEAR(self->fresh);
    Py_CLEAR(self->take);
    Py_CLEAR(self->leave);
    Py_CLEAR(self->executor);
    return 0;
}

static void handler_dealloc(PyObject *object)
{
    HandlerStub *self = (HandlerStub *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    handler_clear(object);
    Py_CLEAR(self->answer);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef handler_methods[] = {
    {"expect", handler_expect, METH_VARARGS, NULL},
    {"handle", (PyCFunction)(void (*)(void))handler_handle, METH_FASTCALL, NULL},
    {"enter", (PyCFunction)(void (*)(void))handler_enter, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot handler_slots[] = {{Py_tp_init, handler_init}, {Py_tp_dealloc, handler_dealloc}, {Py_tp_traverse, handler_traverse},
                                      {Py_tp_clear, handler_clear}, {Py_tp_methods, handler_methods}, {0, NULL}};
static PyType_Spec handler_spec = {"lrpc.kernel.host.native.HandlerStub", sizeof(HandlerStub), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, handler_slots};

#endif
