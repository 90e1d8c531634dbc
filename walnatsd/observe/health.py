"""Whether the daemon is ready, and what is missing where it is not."""

import asyncio


class Health:
    """The problems that keep the daemon from being ready, by part. Ready means that there is none."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._is_stopping = False
        self._change = asyncio.Event()

    def set_problem(self, part: str, problem: str) -> None:
        """Say what is wrong with a part."""
        self._problems[part] = problem
        self._tell()

    def clear(self, part: str) -> None:
        """Say that a part works."""
        if self._problems.pop(part, None) is not None:
            self._tell()

    def stop(self) -> None:
        """Say that the daemon is stopping: it will not be ready again."""
        self._is_stopping = True
        self.set_problem("stopping", "the daemon is stopping")

    @property
    def is_stopping(self) -> bool:
        """Whether the daemon will not be ready again."""
        return self._is_stopping

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by part."""
        return dict(self._problems)

    @property
    def is_ready(self) -> bool:
        """Whether nothing is wrong."""
        return not self._problems

    async def wait_change(self) -> None:
        """Wait until a problem comes, changes or goes."""
        await self._change.wait()

    async def wait_ready(self) -> None:
        """Wait until nothing is wrong."""
        while not self.is_ready:
            await self.wait_change()

    def _tell(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
