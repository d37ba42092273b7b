"""The protocol between the actors of a run: its definition, and the code generated from it."""
