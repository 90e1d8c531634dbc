"""Asking `wait_for` whether an actor is there."""

import aiohttp

PROBE_TIMEOUT_S = 5.0


async def answers_well(session: aiohttp.ClientSession, url: str) -> bool:
    """GET the URL; True where it answers 2xx within 5 seconds."""
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with session.get(url, timeout=timeout, allow_redirects=False) as response:
            return 200 <= response.status < 300
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
