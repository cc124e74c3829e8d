"""Copies of a store at a target."""
