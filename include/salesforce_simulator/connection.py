"""The transport below HTTP, so that a fault can break a connection in the middle."""

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TRANSPORT = "salesforce_simulator.transport"


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol; each request's scope also names its transport."""

    def on_headers_complete(self) -> None:
        """Called once per request, before the application sees it."""
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]
        super().on_headers_complete()


async def reset(transport: Any) -> None:
    """Break a connection so that the client sees a reset, not an orderly end."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await asyncio.sleep(0.02)  # until uvicorn has noticed; else it would try to answer
