"""Scorer implementations, one file each, found by the name in an artifact's card; nothing is imported here."""
