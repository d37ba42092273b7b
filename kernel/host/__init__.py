"""The host kernel: LRPC between real processes on this computer.

A protection domain is a process. `doors` says where exports are found, `messages` how two processes
introduce themselves, `segments` what memory they share, `workers` who runs procedures, `server` and
`client` are the two sides of a binding. The native module `native` has what Python cannot do: the
transfer itself (transfer.h), and the watcher that notices the end of a process.

`native` is C for Linux. Where it could not be built, `import lrpc` works all the same, and whoever
asks for this kernel gets one line that says what is missing.
"""
