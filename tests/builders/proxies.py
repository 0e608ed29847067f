"""Proxies on loopback that lead every host to one port of this machine: HTTP CONNECT (by TLS, too) and SOCKS 5."""

from __future__ import annotations

import asyncio
import base64
import ssl
from asyncio import StreamReader, StreamWriter
from urllib.parse import urlsplit


class Proxy:
    """Stands between a client and the server at ``url``; ``asked`` keeps the host and port of each connection.

    With ``login`` ("user:password") it refuses whoever does not show that.
    """

    def __init__(self, url: str, login: str = "") -> None:
        self._port, self._login = urlsplit(url).port, login
        self.asked: list[str] = []
        self.address = ""

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        first = await reader.readexactly(1)
        admitted = await (self._socks if first == b"\5" else self._connect)(reader, writer)
        if admitted:
            inner, outer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        writer.close()

    async def _connect(self, reader: StreamReader, writer: StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        shown = f"Proxy-Authorization: Basic {base64.b64encode(self._login.encode()).decode()}"
        if self._login and shown.lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return False
        self.asked.append(head.split(" ")[1])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return True

    async def _socks(self, reader: StreamReader, writer: StreamWriter) -> bool:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        writer.write(b"\5\2" if 2 in methods and self._login else b"\5\0")
        if self._login:
            parts = [await reader.readexactly(1)]
            for _ in range(2):
                parts.append(await reader.readexactly((await reader.readexactly(1))[0]))
            if b":".join(parts[1:]).decode() != self._login:
                writer.write(b"\1\1")
                return False
            writer.write(b"\1\0")
        await reader.readexactly(3)
        kind = await reader.readexactly(1)
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode() if kind == b"\3" else "an address"
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(b"\5\0\0\1\x7f\0\0\1\0\0")
        return kind == b"\3"


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
