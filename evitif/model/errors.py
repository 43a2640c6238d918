"""The one error of this package that a user can cause."""


class ModelError(ValueError):
    """A model, checkpoint, cut, device or precision that cannot be used; the message names the value and what was expected."""
