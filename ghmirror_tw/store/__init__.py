"""What is remembered: the contract of a store, one encoding, memory, failover."""
