"""The connections of clients, and the admin listener."""
