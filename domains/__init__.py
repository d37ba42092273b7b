"""The contents of a protection domain: interfaces, stubs, the clerk, servers and programs.

To write a server or a program, read `interface`, `codecs`, `residents` and `domain`, in this order.
They say how procedures are declared, which types their parameters may have, which base classes
there are, and what code in a domain may call. `servers` holds ready-made servers. `plans`, `stubs`
and `clerk` make calls and binding work. `simulated/` implements `domain.Domain` for the simulated
kernel.
"""
