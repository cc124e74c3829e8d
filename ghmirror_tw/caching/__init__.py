"""RFC 9111 on the records of this cache, one rule a module: values and pure functions.

`HybridClock`, `Generations` and `TimeoutBackoffs` have a state; they get each time as an argument.
"""
