"""What lives in a protection domain: interface definitions, the stub generator, the clerk, stock servers."""
