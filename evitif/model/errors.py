"""The errors of this package that a user can cause."""


class ModelError(ValueError):
    """A model, checkpoint, cut, device or precision that cannot be used; the message names the value and what was expected."""


class ArtifactError(ValueError):
    """An artifact that cannot be read or was trained for another model; the message names both values."""


class CodeError(ValueError):
    """Bytes of coded tokens that no encoder with this code writes."""
