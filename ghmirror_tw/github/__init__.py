"""Facts about GitHub, each with its source, and detectors of what contradicts them."""
