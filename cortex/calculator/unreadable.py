"""The one error of everything that reads model files."""


class UnreadableModel(Exception):
    """A model's files do not say what it is: ``what`` happened, ``why``, and the ``remedy`` to try next."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why} {remedy}")
        self.what = what
        self.why = why
        self.remedy = remedy
