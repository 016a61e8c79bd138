"""What runs on several machines: the encoding job. May import `api` and everything below it; only `cli` imports it."""
