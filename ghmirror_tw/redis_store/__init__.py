"""The records of the store in Redis: keys, commands and Lua scripts, history, locks."""
