"""The search page, its server, and the static site. May import `dupes`, `index` and what they import."""
