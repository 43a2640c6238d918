"""`make demo`: the whole system on one machine, and what came out of it."""
