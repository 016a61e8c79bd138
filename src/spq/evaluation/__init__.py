"""Metrics, named protocols in use, classic codes. May import `model` and `pq`."""
