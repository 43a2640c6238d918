"""The laboratory: what makes and judges the artifacts that robots and bridges run."""
