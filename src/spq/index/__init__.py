"""The index on disk: store, encoding, sync, search, filters. May import `model` and `pq`."""
