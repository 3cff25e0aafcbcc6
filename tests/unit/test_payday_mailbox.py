"""The mail server of the example: it keeps what it takes, and its faults are real."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from examples.payday.children import Child
from examples.payday.faults import Dealer
from examples.payday.mailbox import GREYLISTED, REPLY_LOST, Folder, Mailbox

ID = "<confirmation.INV-1@payday.example.com>"


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    """A mail server on a good day; `meets` gives it a bad one."""
    with Mailbox(tmp_path / "mail", seed=None) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """What the server has stored."""
    return Folder(tmp_path / "mail")


def meets(mailbox: Mailbox, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every first message of a recipient (or of an id) meets ``fault``."""
    name = "_greylist" if fault == GREYLISTED else "_hang_ups"
    monkeypatch.setattr(mailbox._handler, name, Dealer((fault,), size=1, seed=0))


def send(port: int, message_id: str = ID) -> None:
    message = EmailMessage()
    message["Message-ID"] = message_id
    message["From"] = "payday@payday.example.com"
    message["To"] = "billing@amber.example.com"
    message["Subject"] = "Invoice INV-1 is paid"
    message.set_content("Thank you.")
    with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
        client.send_message(message)


def test_a_message_is_stored_whole(mailbox: Mailbox, folder: Folder) -> None:
    """What was accepted lies in the folder with its id, recipient and subject."""
    send(mailbox.port)

    (message,) = folder.messages()
    assert message.id == ID
    assert message.to == "billing@amber.example.com"
    assert message.subject == "Invoice INV-1 is paid"


def test_copies_counts_by_message_id(mailbox: Mailbox, folder: Folder) -> None:
    """The same id twice is two copies; the server holds nothing back."""
    send(mailbox.port)
    send(mailbox.port)
    send(mailbox.port, "<other@payday.example.com>")

    assert folder.copies(ID) == 2
    assert folder.copies("<never@payday.example.com>") == 0
    assert len(folder.messages()) == 3


def test_a_greylisted_recipient_is_refused_once(
    mailbox: Mailbox, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first message gets 451 and is not stored; the next one is."""
    meets(mailbox, GREYLISTED, monkeypatch)

    with pytest.raises(smtplib.SMTPRecipientsRefused, match="451"):
        send(mailbox.port)
    assert folder.copies(ID) == 0
    send(mailbox.port)
    assert folder.copies(ID) == 1


def test_a_lost_reply_is_stored_and_not_confirmed(
    mailbox: Mailbox, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server hangs up after the message is stored; sent again it is a second copy."""
    meets(mailbox, REPLY_LOST, monkeypatch)

    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(mailbox.port)
    assert folder.copies(ID) == 1
    send(mailbox.port)
    assert folder.copies(ID) == 2


@pytest.mark.faults
def test_the_process_prints_its_port_and_keeps_its_mail_when_killed(tmp_path: Path) -> None:
    """A message that was accepted survives SIGKILL of the server."""
    arguments = ("--folder", str(tmp_path / "mail"), "--seed", "7")
    server = Child("examples.payday.mailbox", *arguments, log=tmp_path / "log")
    for _ in range(3):  # whatever the seed deals this recipient and id
        try:
            send(int(server.said))
        except smtplib.SMTPException:
            continue
    server.kill()

    assert Folder(tmp_path / "mail").copies(ID) >= 2
