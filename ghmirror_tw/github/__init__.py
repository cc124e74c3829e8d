"""Asking GitHub."""
