"""The channel and the server for asyncio, twins of those for threads."""
