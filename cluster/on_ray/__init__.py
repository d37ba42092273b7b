"""Runs on the nodes of a Ray cluster: stations on actors, sessions, and the code that nodes get."""
