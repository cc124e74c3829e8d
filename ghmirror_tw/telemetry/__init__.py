"""Metrics, log observers, the totals of the last hour, and the status document."""
