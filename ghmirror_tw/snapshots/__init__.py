"""Copies of a store: how they look, where they are kept, when they are made."""
