"""A channel and a server for any gRPC program: A-stacks on this computer, gRPC beyond it.

Generated stubs and servicers run on them unchanged. The decision is made when a channel binds, the
paper's first instruction of a stub: unary calls to a server of this computer take an A-stack, and
all else takes gRPC, which stands behind both the channel and the server at all times.
"""
