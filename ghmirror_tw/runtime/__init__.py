"""Small tools over the reactor."""
