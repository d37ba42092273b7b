"""Shows records: as text in a terminal, as a page, as Markdown, as CSV. Runs nothing."""
