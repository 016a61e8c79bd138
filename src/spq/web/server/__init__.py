"""The HTTP API. Shares `spq.web.view` and `spq.web.thumbnail` with the site."""
