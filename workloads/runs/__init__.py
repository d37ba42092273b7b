"""Prepares jobs, carries them out, and repeats them to verify a record."""
