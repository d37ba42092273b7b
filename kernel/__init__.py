"""Lightweight RPC itself: what both kernels share here, the kernel in virtual time in `simulated`."""
