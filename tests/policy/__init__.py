"""Tests of what is decided. Timings are measured in benchmarks, so no test has a deadline."""

from hypothesis import settings

settings.register_profile("policy", deadline=None)
settings.load_profile("policy")
