"""How fast a side may send: congestion control, pacing, and what it knows of the link."""
