"""What a mirror shows of itself to people: figures of now and of the last hour."""
