"""What is decided: pure functions and values, without Twisted, clock or sockets."""
