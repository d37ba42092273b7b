"""Calls between machines: the packets that they travel in, and what these queue for."""
