"""Metrics, logs, the last hour and the status document."""
