"""What is remembered: records, the interface of a store, and its implementations."""
