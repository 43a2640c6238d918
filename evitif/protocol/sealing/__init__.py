"""The keys of a link, its handshake, and the seal of each datagram."""
