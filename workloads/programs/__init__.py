"""Programs and servers that scenarios name, and the registry that leads to them."""
