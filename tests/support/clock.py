"""Time that goes forward when a test says so."""


class Clock:
    """Seconds; to be passed in where a clock is wanted."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
