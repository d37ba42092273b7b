"""Jobs: preparing them, carrying them out, and repeating them to verify a record."""
