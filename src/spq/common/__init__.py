"""Files that are replaced whole, cores, parts of work. Imports nothing of spq."""
