"""A mail server that keeps what it receives: one ``.eml`` file a message, in one folder.

``python -m examples.payday.mailbox --port 0 --folder mail`` prints the SMTP port it listens on
(127.0.0.1 only). It greylists some recipients (451 to their first message) and now and then hangs
up after it has stored a message, so that the sender cannot know.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import threading
import uuid
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from examples.payday import children
from examples.payday.faults import Dealer

GREYLISTED = "greylisted"  # 451 to the first message for a recipient
REPLY_LOST = "reply lost"  # stores the message and hangs up without a word


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it lies in the folder."""

    id: str
    to: str
    subject: str

    @property
    def invoice(self) -> str:
        """The invoice it confirms, from its id: ``<confirmation.INVOICE@domain>``."""
        return self.id.removeprefix("<confirmation.").partition("@")[0]


class Folder:
    """The messages on disk. Several processes may use one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def store(self, content: bytes) -> None:
        """Keep a message; it is on disk, whole, when this returns."""
        name = f"{_digest(_message(content).id)}.{uuid.uuid4().hex}"
        part = self._path / f"{name}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(part.with_suffix(".eml"))
        _sync(self._path)

    def copies(self, message_id: str) -> int:
        """How many messages with this Message-ID were received."""
        return len(list(self._path.glob(f"{_digest(message_id)}.*.eml")))

    def messages(self) -> list[Message]:
        """All messages, in no order that means anything."""
        return [_message(file.read_bytes()) for file in sorted(self._path.glob("*.eml"))]


class Handler:
    """What the SMTP server does with each command (the names are aiosmtpd's)."""

    def __init__(self, folder: Folder, *, seed: int | None) -> None:
        self._folder = folder
        faulty = seed is not None
        self._greylist = Dealer((GREYLISTED,) if faulty else (), size=6, seed=seed or 0)
        self._hang_ups = Dealer((REPLY_LOST,) if faulty else (), size=24, seed=seed or 0)
        self._seen: set[str] = set()

    async def handle_RCPT(  # noqa: N802  # the name aiosmtpd looks for
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if address not in self._seen:
            self._seen.add(address)
            if self._greylist.deal(address, 1) == GREYLISTED:
                return "451 4.7.1 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient ok"

    async def handle_DATA(  # noqa: N802  # the name aiosmtpd looks for
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = cast(bytes, envelope.content)
        message_id = _message(content).id
        again = self._folder.copies(message_id) > 0
        await asyncio.to_thread(self._folder.store, content)
        name = message_id.partition("@")[0]
        if not again and self._hang_ups.deal(name, 1) == REPLY_LOST:
            cast(asyncio.Transport, server.transport).abort()
        return "250 2.0.0 stored"


class Mailbox:
    """The server, in a thread of its own; a context manager that gives itself when it listens."""

    def __init__(self, folder: Path, *, port: int = 0, seed: int | None = 0) -> None:
        self.port = port
        self._handler = Handler(Folder(folder), seed=seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mailbox", daemon=True)

    def __enter__(self) -> Mailbox:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        server = self._loop.run_until_complete(
            self._loop.create_server(self._session, "127.0.0.1", self.port)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(server.wait_closed())

    def _session(self) -> SMTP:
        return SMTP(self._handler, hostname="mail.payday.example.com", loop=self._loop)


def _message(content: bytes) -> Message:
    parsed = message_from_bytes(content, policy=policy.default)
    return Message(
        id=str(parsed.get("Message-ID", "")).strip(),
        to=str(parsed.get("To", "")),
        subject=str(parsed.get("Subject", "")),
    )


def _digest(message_id: str) -> str:
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description="A mail server with a folder, on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0: any free port (printed)")
    parser.add_argument("--folder", type=Path, required=True, help="where messages are kept")
    parser.add_argument("--seed", type=int, default=0, help="deals the faults")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    with Mailbox(options.folder, port=options.port, seed=options.seed) as mailbox:
        children.ready(mailbox.port)
        children.wait_for_the_end(until_eof=options.until_eof)


if __name__ == "__main__":
    main()
