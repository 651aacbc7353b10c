"""Models that nobody else's weights exist for come in as shapes, trained ones go out: one module a kind."""
