"""Other simulators, each with the fewest events that give the kernel's virtual times."""
