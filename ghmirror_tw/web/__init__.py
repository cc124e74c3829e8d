"""Being asked: the server side."""
