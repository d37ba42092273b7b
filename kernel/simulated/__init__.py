"""The LRPC kernel in virtual time.

It performs the paper's steps, and charges each at its cost on a stated machine.
"""
