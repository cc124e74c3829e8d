"""The store that replicas share, over real servers."""
