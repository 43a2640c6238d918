"""A frame cut into packets on the edge, and put together again on the bridge."""
