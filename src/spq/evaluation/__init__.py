"""Metrics, evaluation under named protocols, classic codes. May import `model` and `pq`."""
