"""Turns a command, a record or a sweep into a job, carries it out, and repeats it to verify a record."""
