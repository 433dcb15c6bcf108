"""Kept prompts and people's labels: beside the records, in a SQLite file or PostgreSQL tables of their own."""
