"""The Redis store: its servers and the connections to them, its scripts, and its records."""
