"""Turns raw shards into training records."""

print("done")
