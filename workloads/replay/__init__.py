"""Replays the spans of a trace as calls between domains, under a placement on machines."""
