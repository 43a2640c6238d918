"""The ROS nodes off-board: the bridge node and the link simulator node. They hold no mathematics; see docs/nodes.md."""
