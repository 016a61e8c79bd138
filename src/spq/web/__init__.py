"""The search page, the server behind it, and the site without one. May import `dupes` and `index`."""
