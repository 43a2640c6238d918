"""The robot's end of the link."""
