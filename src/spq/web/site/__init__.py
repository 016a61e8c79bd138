"""An index as static files that are searched in the browser. Shares `spq.web.view` and `spq.web.thumbnail` with the server."""
