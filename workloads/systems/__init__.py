"""Table I's systems as running clusters: what their users do, and the systems that serve them."""
