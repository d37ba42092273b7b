"""Domains of the simulated kernel: they implement `domains/domain.py` in virtual time."""
