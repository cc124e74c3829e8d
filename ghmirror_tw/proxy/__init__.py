"""The way of one request, from access control to the response."""
