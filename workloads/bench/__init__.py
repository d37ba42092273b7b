"""Measures calls between processes of this computer: lrpc beside what else there is for Python."""
