"""The window of an actor: how many attempts may be in flight, learned from how the actor copes."""

FIRST_SIZE = 4


class Window:
    """Grows by one after each window's worth of answers without overload, halves on overload.

    Additive increase and multiplicative decrease, as TCP does it (RFC 5681 section 3.1): what is in flight when the
    actor is overloaded has been sent under the old size, so it halves the window once and not once per answer, and its
    good answers say nothing about the new size.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = min(FIRST_SIZE, limit)
        self._clean = 0
        self._generation = 0

    @property
    def size(self) -> int:
        """How many attempts may be in flight, 1 at least."""
        return self._size

    @property
    def generation(self) -> int:
        """How often it was halved; to be remembered when an attempt starts."""
        return self._generation

    def grow(self, generation: int) -> None:
        """Take note of an answer without overload to an attempt that started in the given generation."""
        if generation != self._generation or self._size >= self._limit:
            return
        self._clean += 1
        if self._clean >= self._size:
            self._size += 1
            self._clean = 0

    def shrink(self, generation: int) -> None:
        """Take note that the actor was overloaded by an attempt that started in the given generation."""
        if generation != self._generation:
            return
        self._size = max(1, self._size // 2)
        self._clean = 0
        self._generation += 1
