"""Measurements of what the trained artifacts do; each number can be made again with one command."""
