"""Files that are replaced whole, cores, work in parallel, printable names. Imports nothing of spq."""
