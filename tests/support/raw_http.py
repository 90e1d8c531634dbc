"""HTTP in bytes of the test's own."""

import asyncio


async def send(address: str, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; give status, headers and body of the answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(raw)
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines if line}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body
    finally:
        writer.close()
        await writer.wait_closed()
