"""A directory: it sends each robot of a fleet to a bridge, and keeps no session."""
