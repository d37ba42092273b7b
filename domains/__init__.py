"""The contents of a protection domain: interfaces, stubs, the clerk, servers and programs.

To write a server or a program, read `interface` (how procedures are declared), `codecs` (the types
of their parameters), `residents` (the base classes) and `domain` (what code in a domain may call),
in this order. `servers` holds ready-made servers. `plans`, `stubs` and `clerk` make calls and
binding work. `simulated/` implements `domain.Domain` for the simulated kernel.
"""
