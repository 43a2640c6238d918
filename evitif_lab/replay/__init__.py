"""A recording played through edge and bridge over a simulated link, without a ROS graph."""
