"""The bytes of each datagram: layouts, handshake, answers, and runs of equal datagrams."""
