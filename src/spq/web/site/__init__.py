"""An index as static files that search in the browser. Shares with the server only `spq.web.view`."""
