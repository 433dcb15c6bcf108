"""Prompt in, calibrated domain probabilities out. No HTTP, no asyncio."""
