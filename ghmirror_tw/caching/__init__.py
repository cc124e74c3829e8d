"""RFC 9111 on the records of this cache, one rule a module. No reactor, no clock."""
