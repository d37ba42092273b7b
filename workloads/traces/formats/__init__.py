"""Reads spans in each format that tools write them in."""
