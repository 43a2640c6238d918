"""The one error that reading a recording raises."""


class RecordingError(ValueError):
    """A recording that cannot be read, or has not what is asked of it; the message names it and what is in it."""
