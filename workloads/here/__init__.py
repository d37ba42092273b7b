"""Servers, calls and doors of this computer, for the command line."""
