"""Reproduces the paper's tables and figures on simulated machines."""
