"""A Redis client for Twisted over txredisapi's protocol; it knows nothing of the mirror."""
