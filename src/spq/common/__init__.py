"""Helpers that every folder may use: files, parallel work, text. Imports nothing of spq."""
