"""Finds the placement of a trace's pods that crosses machines least, and proves how good it is."""
