"""Facts about GitHub as pure functions, each with its source."""
