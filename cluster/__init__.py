"""Machines and what joins them: descriptions, actors, links, names and virtual-time synchronisation."""
