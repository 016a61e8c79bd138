"""Reports as HTML, PNG and text."""
