"""Product quantization in memory: tables, exact sums, scans. It needs only NumPy and FAISS, and reads no files."""
