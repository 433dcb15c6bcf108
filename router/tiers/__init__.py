"""The tiers of a classifier: a fast one that reads every prompt, a transformer for what the fast one leaves open."""
