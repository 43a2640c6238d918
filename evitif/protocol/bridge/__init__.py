"""The bridge's end of its links to robots."""
