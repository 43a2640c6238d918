"""The one error of reading a picture."""


class PictureError(ValueError):
    """Bytes that are no whole picture of a kind that can be read; the message says why, and not which file it was."""
