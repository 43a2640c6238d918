"""Training of backbones and of what lies beside them; resumable, seeded, with a progress bar."""
