"""A profile as something to read: HTML page, terminal, Markdown, JSON and Chrome trace, all from `RunSummary`."""
