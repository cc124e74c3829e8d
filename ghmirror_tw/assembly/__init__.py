"""Putting parts together as the settings say: what `tap` and `ctl` share."""
