"""Small tools over the reactor: time, Deferreds, threads, bounded tables, TLS."""
