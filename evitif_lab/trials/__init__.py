"""What training and evaluation both use: images in memory, the model that is divided, and a light and a large model side by side."""
