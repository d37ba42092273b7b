"""What it costs, beside what people would use instead."""
