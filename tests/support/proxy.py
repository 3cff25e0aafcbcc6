"""A TCP proxy on loopback that can lose what a server answers to certain words."""

from __future__ import annotations

import socket
import threading


class Proxy:
    """Forwards connections to ``port``; `lose` cuts one of them at a given word.

    Attributes:
        port: where it listens, on 127.0.0.1.
        cuts: how many connections it has cut.
        refuses: whether it turns new connections away.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.refuses = False
        self._word = b""
        self._forwards = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, word: bytes, *, forward: bool) -> None:
        """Cut the next connection on which a client says ``word``.

        With ``forward`` the server hears it, and its answer is lost; without, it hears nothing.
        """
        self._word, self._forwards = word, forward

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
                if self.refuses:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [client, server]
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65_536):
                if self._word and self._word in data:
                    self._cut(client, server, data)
                    return
                server.sendall(data)
        except OSError:
            pass
        _end(server)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65_536):
                client.sendall(data)
        except OSError:
            pass
        _end(client)

    def _cut(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        self._word = b""
        self.cuts += 1
        _end(client)
        if self._forwards:
            server.sendall(data)
        _end(server, socket.SHUT_WR)


def _end(one: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    try:
        one.shutdown(how)
    except OSError:
        pass  # it has ended by itself
