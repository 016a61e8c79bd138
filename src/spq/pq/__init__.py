"""Product quantization in memory: tables, exact sums, scans. NumPy and FAISS only; no files, no other folder of spq."""
