"""What every constructor of the client asks of its numbers."""


def check_positive(**given: float) -> None:
    """Check numbers by the names of their arguments.

    Raises:
        ValueError: one is not positive.
    """
    for name, value in given.items():
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, got {value!r}")
