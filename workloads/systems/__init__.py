"""Table I's systems as running clusters: what people do at their machines, and what each system makes of it."""
