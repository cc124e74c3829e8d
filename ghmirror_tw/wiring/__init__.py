"""The only place that knows both settings and parts."""
