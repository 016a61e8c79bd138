"""HTML, PNG and text for people."""
