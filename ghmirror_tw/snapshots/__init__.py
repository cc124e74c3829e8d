"""Snapshots: copies of a store at a target, made on a schedule, and restored from there."""
