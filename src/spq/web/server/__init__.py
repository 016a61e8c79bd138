"""The HTTP API. Shares with the site only `spq.web.view`."""
