"""evitif beside TCP, ROS 2 image topics and image codecs with parity, over one bad link."""
