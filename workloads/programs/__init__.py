"""Servers and programs that scenarios name, and the registry in which a name is looked up."""
