"""Video over a bad link: whoever sends a clip's frames gives the class that each was answered with, and the bytes that it took."""
