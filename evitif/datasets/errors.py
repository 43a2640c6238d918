"""The one error that the data sets raise."""


class DatasetError(ValueError):
    """A data set that is not there or not in the layout expected; the message says what to do."""
