"""RFC 9111 as pure functions on the records of this cache, one rule a module."""
