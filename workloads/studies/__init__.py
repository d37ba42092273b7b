"""Runs many variants of a workload, and says what moves the share of calls that cross machines."""
