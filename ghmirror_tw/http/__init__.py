"""HTTP messages as values and pure functions: no sockets, no reactor, no clock."""
