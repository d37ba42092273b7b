"""Domains of the host kernel: processes of this computer that export and import interfaces."""
