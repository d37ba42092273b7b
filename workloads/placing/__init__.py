"""Finds the placement of a trace's pods with the fewest calls between machines, with a proof."""
