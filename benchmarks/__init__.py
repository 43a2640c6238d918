"""Measurements of speed; `make bench` runs them. They run what the nodes run."""
