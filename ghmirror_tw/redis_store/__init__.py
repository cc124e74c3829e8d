"""The records of the store in Redis: keys and Lua scripts."""
