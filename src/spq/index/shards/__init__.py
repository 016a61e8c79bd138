"""Shards of a large index: files that never change, beside the database of what is newer. May import the rest of `index`."""
