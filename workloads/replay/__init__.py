"""Replays a trace's spans as calls between domains, where a placement puts its pods."""
