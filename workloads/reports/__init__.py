"""Shows records as text, as a page, as Markdown and as CSV; runs nothing."""
