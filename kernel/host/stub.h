/* The client's stub of a procedure that takes one message and returns one, in machine code, as the
   paper's stubs are: it makes the call that is usual, and hands every other one to Python.

   A request lies on the A-stack behind a head that is the same for each usual call, and a reply
   behind the head that says that nothing went wrong. What serializes and deserializes is the
   user's. It may raise, take long and call anything, also the stub itself, so nothing is held while
   it runs. */

#ifndef LRPC_STUB_H
#define LRPC_STUB_H

static PyTypeObject *way_type;

/* By which binding the stubs of a channel call now, and until when that is known. */
typedef struct {
    PyObject_HEAD
    Binding *binding;
    PyObject *owner; /* what Python has for the binding */
    int64_t until;
    Py_ssize_t most_sent, most_received; /* bytes of a message */
    uint64_t calls;
} Way;

typedef struct {
    PyObject_HEAD
    Way *way;
    PyObject *head, *answer, *serialize, *deserialize; /* the last two: None where messages are bytes */
    int retired;
} Stub;

/* Way(most_sent, most_received) */
static int way_init(PyObject *object, PyObject *args, PyObject *unused)
{
    Way *self = (Way *)object;
    (void)unused;
    return PyArg_ParseTuple(args, "nn", &self->most_sent, &self->most_received) ? 0 : -1;
}

static void set_way(Way *self, Binding *binding, PyObject *owner, int64_t until)
{
    PyObject *old = (PyObject *)self->binding, *old_owner = self->owner;
    self->binding = (Binding *)Py_XNewRef((PyObject *)binding);
    self->owner = Py_XNewRef(owner);
    self->until = until;
    Py_XDECREF(old);
    Py_XDECREF(old_owner);
}

/* open(binding, owner, until_ns): calls take this binding until then */
static PyObject *way_open(PyObject *object, PyObject *args)
{
    PyObject *binding, *owner;
    long long until;
    if (!PyArg_ParseTuple(args, "O!OL", binding_type, &binding, &owner, &until))
        return NULL;
    set_way((Way *)object, (Binding *)binding, owner, until);
    Py_RETURN_NONE;
}

/* shut(): every call is Python's, until it is opened again */
static PyObject *way_shut(PyObject *object, PyObject *unused)
{
    (void)unused;
    set_way((Way *)object, NULL, NULL, 0);
    Py_RETURN_NONE;
}

/* count(): one more call has come back, which Python made */
static PyObject *way_count(PyObject *object, PyObject *unused)
{
    (void)unused;
    ((Way *)object)->calls++;
    Py_RETURN_NONE;
}

static PyObject *way_calls(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((Way *)object)->calls);
}

static int way_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Way *)object)->owner);
    return 0;
}

static int way_clear(PyObject *object)
{
    set_way((Way *)object, NULL, NULL, 0);
    return 0;
}

static void way_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    way_clear(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* Stub(way, head, answer, serialize, deserialize) */
static int stub_init(PyObject *object, PyObject *args, PyObject *unused)
{
    Stub *self = (Stub *)object;
    PyObject *way, *head, *answer, *serialize, *deserialize;
    (void)unused;
    if (!PyArg_ParseTuple(args, "O!SSOO", way_type, &way, &head, &answer, &serialize, &deserialize))
        return -1;
    if (self->way) {
        PyErr_SetString(PyExc_TypeError, "a stub is made once");
        return -1;
    }
    self->way = (Way *)Py_NewRef(way);
    self->head = Py_NewRef(head);
    self->answer = Py_NewRef(answer);
    self->serialize = Py_NewRef(serialize);
    self->deserialize = Py_NewRef(deserialize);
    return 0;
}

/* Leave a call to the method of that name, with the same arguments. */
static PyObject *unusual(PyObject *object, PyObject *args, PyObject *named)
{
    PyObject *method = PyObject_GetAttrString(object, "_call_unusual");
    if (!method)
        return NULL;
    PyObject *found = PyObject_Call(method, args, named);
    Py_DECREF(method);
    return found;
}

/* Return the exception that is raised; NULL for one that is no Exception, which stays raised. */
static PyObject *caught(void) { return PyErr_ExceptionMatches(PyExc_Exception) ? raised() : NULL; }

/* Tell Python that a call was left by an exception, which goes on; and its reply, where it has one. */
static void left(PyObject *object, PyObject *owner, PyObject *reply)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *told = PyObject_CallMethod(object, "_was_left", "OO", owner, reply);
    if (!told)
        PyErr_Clear();
    Py_XDECREF(told);
    PyErr_Restore(type, value, traceback);
}

/* Return the response that a message says; Python raises where it says none. */
static PyObject *response_of(Stub *self, PyObject *message)
{
    if (self->deserialize == Py_None)
        return message;
    PyObject *found = PyObject_CallFunctionObjArgs(self->deserialize, message, NULL);
    Py_DECREF(message);
    if (found && found != Py_None)
        return found;
    if (found)
        Py_DECREF(found);
    else {
        PyObject *error = caught();
        if (!error)
            return NULL;
        Py_DECREF(error);
    }
    return PyObject_CallMethod((PyObject *)self, "_fail_to_read", NULL);
}

/* Make a usual call on a binding that stays while it runs. */
static PyObject *stub_transfer(Stub *self, Binding *binding, PyObject *owner, PyObject *request)
{
    Way *way = self->way;
    PyObject *data, *reply = NULL;
    if (self->serialize == Py_None)
        data = Py_NewRef(request);
    else
        data = PyObject_CallFunctionObjArgs(self->serialize, request, NULL);
    int behind = 0;
    if (!data) {
        PyObject *error = caught();
        if (error)
            PyObject_CallMethod((PyObject *)self, "_fail_to_send", "O", error); /* which raises */
        Py_XDECREF(error);
        return NULL;
    }
    if (PyBytes_CheckExact(data) && PyBytes_Size(data) <= way->most_sent) {
        long index = take_astack(binding, 0, FOREVER, 1);
        if (index < 0)
            reply = index == -100 ? NULL : PyLong_FromLong(index);
        else
            reply = transfer(binding, (uint32_t)index, 0, self->head, data, FOREVER, self->answer, (size_t)way->most_received, &behind);
        if (!reply) {
            Py_DECREF(data);
            left((PyObject *)self, owner, Py_None);
            return NULL;
        }
    }
    if (behind) {
        Py_DECREF(data);
        way->calls++;
        return response_of(self, reply);
    }
    PyObject *found = PyObject_CallMethod((PyObject *)self, "_finish", "OOOO", owner, request, data, reply ? reply : Py_None);
    if (!found && reply && !PyErr_ExceptionMatches(PyExc_Exception))
        left((PyObject *)self, owner, reply);
    Py_DECREF(data);
    Py_XDECREF(reply);
    return found;
}

/* stub(request): other arguments are not usual */
static PyObject *stub_call(PyObject *object, PyObject *args, PyObject *named)
{
    Stub *self = (Stub *)object;
    Way *way = self->way;
    if (!way || self->retired || !way->binding || PyTuple_Size(args) != 1 || (named && PyDict_Size(named)) || now_ns() >= way->until
        || !way->binding->groups || !has_idle(way->binding, 0))
        return unusual(object, args, named);
    PyObject *binding = Py_NewRef((PyObject *)way->binding), *owner = Py_NewRef(way->owner);
    PyObject *found = stub_transfer(self, (Binding *)binding, owner, PyTuple_GetItem(args, 0));
    Py_DECREF(binding);
    Py_DECREF(owner);
    return found;
}

/* _retire(): every call is unusual from now on */
static PyObject *stub_retire(PyObject *object, PyObject *unused)
{
    (void)unused;
    ((Stub *)object)->retired = 1;
    Py_RETURN_NONE;
}

static int stub_traverse(PyObject *object, visitproc visit, void *arg)
{
    Stub *self = (Stub *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT((PyObject *)self->way);
    Py_VISIT(self->serialize);
    Py_VISIT(self->deserialize);
    return 0;
}

static int stub_clear(PyObject *object)
{
    Stub *self = (Stub *)object;
    Py_CLEAR(self->serialize);
    Py_CLEAR(self->deserialize);
    PyObject *way = (PyObject *)self->way;
    self->way = NULL; /* a call is Python's from now on */
    Py_XDECREF(way);
    return 0;
}

static void stub_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    stub_clear(object);
    Py_CLEAR(((Stub *)object)->head);
    Py_CLEAR(((Stub *)object)->answer);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyGetSetDef way_properties[] = {{"calls", way_calls, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef way_methods[] = {
    {"open", way_open, METH_VARARGS, NULL}, {"shut", way_shut, METH_NOARGS, NULL}, {"count", way_count, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot way_slots[] = {{Py_tp_init, way_init}, {Py_tp_dealloc, way_dealloc}, {Py_tp_traverse, way_traverse}, {Py_tp_clear, way_clear},
                                  {Py_tp_methods, way_methods}, {Py_tp_getset, way_properties}, {0, NULL}};
static PyType_Spec way_spec = {"lrpc.kernel.host.native.Way", sizeof(Way), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, way_slots};
static PyMethodDef stub_methods[] = {{"_retire", stub_retire, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot stub_slots[] = {{Py_tp_init, stub_init}, {Py_tp_call, stub_call}, {Py_tp_dealloc, stub_dealloc}, {Py_tp_traverse, stub_traverse},
                                   {Py_tp_clear, stub_clear}, {Py_tp_methods, stub_methods}, {0, NULL}};
static PyType_Spec stub_spec = {"lrpc.kernel.host.native.Stub", sizeof(Stub), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, stub_slots};

#endif
