"""The error of this package."""


class PictureError(ValueError):
    """Bytes that are not a whole picture of a known kind; the message says why, but not which file it was."""
