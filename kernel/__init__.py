"""The LRPC kernel, which knows neither Ray nor gRPC and has no wall clock.

The modules here are shared by every kernel: errors, states, procedure descriptors, random streams
and validated TOML documents. `simulated` holds the kernel that runs in virtual time.
"""
