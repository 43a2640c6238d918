"""The adviser: which way of sending is best for this recording, this model and this link, in simulated time."""
