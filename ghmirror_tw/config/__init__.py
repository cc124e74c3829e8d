"""INI file and environment to settings."""
