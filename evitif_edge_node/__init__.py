"""The ROS nodes on the robot: the edge node and the camera node. They hold no mathematics; see docs/nodes.md."""
