"""What is known of GitHub, each fact with its source. No reactor, no clock."""
