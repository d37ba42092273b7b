"""Run records: cells, tables, event logs, and the folders that hold them."""
