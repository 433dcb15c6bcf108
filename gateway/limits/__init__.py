"""Limits of keys and experts: requests, tokens, requests at once, money. See `limits.Limits` and `contract`."""
