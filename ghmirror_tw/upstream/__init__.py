"""Sending requests to GitHub: connections, limits, availability."""
