"""Benchmarks: what simulation costs, beside what people would use instead, and what faults do."""
