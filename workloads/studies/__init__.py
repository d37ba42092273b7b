"""Runs many variants of one workload, and says what moves the share of calls that cross machines."""
