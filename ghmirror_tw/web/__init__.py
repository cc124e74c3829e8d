"""Connections of clients, responses to them, and the admin listener."""
