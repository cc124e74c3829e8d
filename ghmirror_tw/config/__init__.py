"""The options, their kinds of values, and how a file and the environment become settings."""
