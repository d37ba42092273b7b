"""Domains of the simulated kernel: what `domains/` asks of a domain, done in virtual time."""
