"""The LRPC kernel in virtual time: the paper's mechanism, step by step, with the costs of a stated machine."""
