"""Replays policies on recorded outcomes: the decisions that serving would have taken, and what they would have got.

The policies are those of the gateway, asked prompt by prompt. It must not compute figures (`router` does), print, or
send anything anywhere.
"""
