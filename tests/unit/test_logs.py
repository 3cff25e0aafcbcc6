"""Logs: plain records, tied together by a correlation id, without secrets, harmless."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.clock import FakeClock
from gonogo.errors import ConfigurationError
from gonogo.logs import StructuredLogger, carry, correlation, get_correlation_id
from gonogo.secrets import Secret

SECRETS = [
    "password=hunter2",
    "Bearer hunter2-hunter2",
    "https://me:hunter2@db",
    "4111 1111-1111 1111",
]


class Failing(logging.Handler):
    """A handler that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("disk full")


class Listening(logging.Handler):
    """Somebody else's handler: keeps the standard records it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Torn(io.StringIO):
    """A stream that cannot be written to."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def no_correlation() -> Iterator[None]:
    """Each test runs in a context of its own, so that none inherits another's id."""
    with correlation("outer"):
        yield


@pytest.fixture
def named() -> Iterator[logging.Logger]:
    """A standard logger that belongs to the test, and is as new."""
    logger = logging.getLogger("tests.gonogo")
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.filters.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture
def log(named: logging.Logger) -> StructuredLogger:
    return StructuredLogger(named, clock=FakeClock())


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_says_when_what_and_to_which_it_belongs(log: StructuredLogger) -> None:
    """Timestamp in UTC, level, action, correlation id, then the fields."""
    log.set_correlation_id("req-1")
    assert log.log_action("payment", level="warning", invoice="INV-7", cents=12000) == {
        "timestamp": "2027-01-15T08:00:00.000000Z",
        "level": "warning",
        "action": "payment",
        "correlation_id": "req-1",
        "invoice": "INV-7",
        "cents": 12000,
    }


def test_json_lines_are_the_records(log: StructuredLogger) -> None:
    """What is printed is what is returned, one object a line."""
    stream = io.StringIO()
    log.configure(json=True, stream=stream)
    records = [log.log_action("pay", note="two\nlines", who="ana“"), log.log_action("refund")]
    assert lines(stream) == records


def test_the_console_prints_one_line_for_people(log: StructuredLogger) -> None:
    """Time, level, action and fields; line breaks cannot forge another line."""
    stream = io.StringIO()
    log.configure(json=False, stream=stream)
    log.set_correlation_id("req-1")
    log.log_action("pay", invoice="INV-7", note="a\nb", who="a b", empty="", more={"a": [1]})
    assert stream.getvalue() == (
        '2027-01-15 08:00:00.000 info     pay invoice=INV-7 note=a\\nb who="a b" empty="" '
        'more={"a": [1]} correlation_id=req-1\n'
    )


def test_nothing_is_printed_until_somebody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    """A library does not print: no handler of ours, and none of last resort."""
    logger = logging.getLogger("tests.gonogo.silent")
    StructuredLogger(logger).log_action("pay", level="critical")
    assert capsys.readouterr() == ("", "")
    logger.handlers.clear()


def test_the_root_logger_is_left_alone_unless_asked(log: StructuredLogger) -> None:
    """configure() touches its own logger; with root=True the root logger, and only then."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    log.configure(stream=io.StringIO())
    log.log_action("pay")
    assert (list(root.handlers), root.level) == before
    handler = log.configure(stream=io.StringIO(), root=True)
    assert handler in root.handlers
    root.removeHandler(handler)
    root.setLevel(before[1])


def test_configuring_again_replaces(log: StructuredLogger) -> None:
    """A second configure() does not print everything twice."""
    first, second = io.StringIO(), io.StringIO()
    log.configure(stream=first)
    log.configure(stream=second)
    log.log_action("pay")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_levels_decide_what_is_printed_and_not_what_is_returned(log: StructuredLogger) -> None:
    """Below the level nothing is written; the record is made all the same, without secrets."""
    stream = io.StringIO()
    log.configure(stream=stream, level="warning")
    record = log.log_action("quiet", level="info", password="hunter2")
    log.log_action("loud", level="error")
    assert record["password"] == "[secret]"
    assert [line["action"] for line in lines(stream)] == ["loud"]


def test_a_threshold_of_its_own(named: logging.Logger) -> None:
    """The level given to the constructor holds for this object and leaves the logger alone."""
    stream = io.StringIO()
    StructuredLogger(named).configure(stream=stream, level="debug")
    StructuredLogger(named, level="error").log_action("quiet")
    StructuredLogger(named).log_action("heard", level="debug")
    assert [line["action"] for line in lines(stream)] == ["heard"]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("INFO", "info"),
        ("warn", "warning"),
        ("Fatal", "critical"),
        ("loud", "info"),
        (None, "info"),
    ],
)
def test_a_level_that_is_not_known_is_mended(
    log: StructuredLogger, given: Any, written: str
) -> None:
    """A typing error in a level costs nobody a call."""
    assert log.log_action("pay", level=given)["level"] == written


def test_a_wrong_level_in_the_settings_is_an_error(log: StructuredLogger) -> None:
    """Settings are checked when they are made."""
    with pytest.raises(ConfigurationError, match="loud"):
        StructuredLogger(log.logger, level="loud")
    with pytest.raises(ConfigurationError, match="loud"):
        log.configure(level="loud")


def test_fields_named_like_ours_are_kept_beside_them(log: StructuredLogger) -> None:
    """Nobody overwrites the time or the action by a field, and nothing is lost."""
    record = log.log_action("pay", action="refund", timestamp=1, correlation_id=2, name="ana")
    assert record["action"] == "pay"
    assert record["timestamp"] == "2027-01-15T08:00:00.000000Z"
    assert record["correlation_id"] == "outer"
    assert record["field.action"] == "refund"
    assert record["field.timestamp"] == 1
    assert record["field.correlation_id"] == 2
    assert record["name"] == "ana"


def test_secrets_never_leave(named: logging.Logger) -> None:
    """By name, type, path and form, in the record, in JSON, on the console, in foreign handlers."""
    log = StructuredLogger(named, secrets=["customer.name"])
    listening, stream = Listening(), io.StringIO()
    named.addHandler(listening)
    for as_json in (True, False):
        log.configure(json=as_json, stream=stream)
        record = log.log_action(
            "login with token=hunter2",
            password="hunter2",
            wrapped=[Secret("hunter2")],
            customer={"name": "hunter2"},
            url="https://me:hunter2@example.com/",
            header="Bearer hunter2",
            error=ValueError("password=hunter2"),
        )
        assert "hunter2" not in str(record)
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("[secret]") >= 12
    assert len(listening.records) == 2
    for line in listening.records:
        assert "hunter2" not in line.getMessage() + repr(line.__dict__)


def test_an_exception_is_a_field_like_any_other(log: StructuredLogger) -> None:
    """It is logged as type, message and traceback, without the locals of its frames."""

    def fail(invoice: str) -> None:
        raise ValueError("no such invoice")

    stream = io.StringIO()
    log.configure(stream=stream)
    try:
        fail("INV-" + str(40 + 2))
    except ValueError as error:
        log.log_action("pay", level="error", error=error)
    (line,) = lines(stream)
    assert line["error"]["type"] == "ValueError"
    assert line["error"]["message"] == "ValueError: no such invoice"
    assert 'raise ValueError("no such invoice")' in line["error"]["traceback"]
    assert "INV-42" not in stream.getvalue()


def test_whatever_is_logged_becomes_json(log: StructuredLogger) -> None:
    """Objects, large numbers, lone surrogates, rings: each line can be parsed, nothing raises."""
    stream = io.StringIO()
    log.configure(stream=stream)
    ring: list[object] = []
    ring.append(ring)
    log.log_action("odd", a=object(), b=2**80, c="\ud800", d=ring, e=float("nan"), f=b"\xff")
    (line,) = lines(stream)
    assert line["a"].startswith("<object object")
    assert (line["b"], line["c"], line["d"]) == (str(2**80), "\ud800", ["<ring>"])
    assert (line["e"], line["f"]) == ("nan", "<1 bytes>")
    assert log.failures == 0


def test_a_failing_handler_is_counted_and_the_others_still_get_the_record(
    log: StructuredLogger,
) -> None:
    """Neither a handler that raises nor a torn pipe reaches the caller or other handlers."""
    listening = Listening()
    log.logger.addHandler(Failing())
    log.configure(stream=Torn())
    log.logger.addHandler(listening)
    assert log.log_action("pay")["action"] == "pay"
    assert log.failures == 2
    assert [record.getMessage() for record in listening.records] == ["pay correlation_id=outer"]


def test_the_torn_pipe_of_a_foreign_record_is_counted_too(log: StructuredLogger) -> None:
    """Others who log through our handler do not have their failures printed."""
    log.configure(stream=Torn())
    log.logger.warning("from a library")
    assert log.failures == 1


def test_parents_hear_where_the_logger_propagates(named: logging.Logger) -> None:
    """Handlers of parent loggers get standard records; not those above one that keeps to itself."""
    listening = Listening()
    named.addHandler(listening)
    child = logging.getLogger("tests.gonogo.child")
    named.setLevel(logging.INFO)
    log = StructuredLogger(child, clock=FakeClock())
    log.log_action("pay", level="error", cents=1)
    (record,) = listening.records
    assert (record.name, record.levelname, record.created) == (child.name, "ERROR", 1_800_000_000.0)
    child.propagate = False
    log.log_action("pay", level="error")
    assert len(listening.records) == 1
    child.propagate = True
    child.handlers.clear()


def test_filters_and_handler_levels_are_respected(log: StructuredLogger) -> None:
    """What logging is told to leave out is left out, also by our own handler."""
    stream = io.StringIO()
    handler = log.configure(stream=stream)
    handler.setLevel(logging.ERROR)
    log.log_action("below the handler's level")
    handler.setLevel(logging.NOTSET)
    log.logger.addFilter(lambda record: "hush" not in record.getMessage())
    log.log_action("hush")
    log.logger.filters.clear()
    handler.addFilter(lambda record: "hush" not in record.getMessage())
    log.log_action("hush")
    log.log_action("heard")
    assert [line["action"] for line in lines(stream)] == ["heard"]


def test_other_libraries_are_printed_in_the_same_shape(log: StructuredLogger) -> None:
    """Their messages are redacted, their exceptions come without locals."""
    stream = io.StringIO()
    log.configure(stream=stream)
    try:
        raise KeyError("gone")
    except KeyError:
        log.logger.exception("lost %s", "password=hunter2")
    (line,) = lines(stream)
    assert line["action"] == "tests.gonogo"
    assert line["message"] == "lost password=[secret]"
    assert line["correlation_id"] == "outer"
    assert line["error"]["type"] == "KeyError"


class Loud(str):
    """A text that prints as another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


def test_names_are_shown_without_secrets_each_time(log: StructuredLogger) -> None:
    """Remembered or not, of whatever type; ever new ones do not fill the memory."""
    for _ in range(2):
        assert log.log_action("pay token=abc")["action"] == "pay token=[secret]"
        assert log.log_action("pay")["action"] == "pay"
        assert log.log_action(Loud("pay"))["action"] == "PAY"
        assert log.log_action(["pay"])["action"] == "['pay']"  # type: ignore[arg-type]  # as comes
    for number in range(5000):
        log.log_action(f"action-{number}")
    assert len(log._actions) == 4096
    assert "pay token=abc" not in log._actions
    assert log.log_action("pay secret: abc")["action"] == "pay secret: [secret]"


@given(
    st.dictionaries(st.text(max_size=20), st.text() | st.sampled_from(SECRETS) | st.integers()),
    st.sampled_from(["\n", '"', "\\", "\x00", "\x1f", "\ud800", "\u2028", " "]),
)
def test_what_is_written_is_what_is_returned(fields: dict[str, Any], around: str) -> None:
    """And no secret is in either, whatever stands around it and has to be escaped."""
    logger = logging.Logger("tests.gonogo.alone")
    log = StructuredLogger(logger)
    stream = io.StringIO()
    log.configure(stream=stream)
    fields = {f"x{key}": value for key, value in fields.items()}
    for place, secret in enumerate(SECRETS):
        fields[f"s{place}{around}"] = f"{around}{secret}{around}"
    record = log.log_action("pay", **fields)
    assert [json.loads(line) for line in stream.getvalue()[:-1].split("\n")] == [record]
    assert "hunter2" not in str(record)
    assert not any("4111 1111" in value for value in record.values() if isinstance(value, str))


# Correlation


def test_an_id_is_made_when_none_is_given(log: StructuredLogger) -> None:
    """New ids differ; given ones are kept; the record carries the one that is set."""
    first, second = log.set_correlation_id(), log.set_correlation_id()
    assert first != second
    assert log.get_correlation_id() == get_correlation_id() == second
    assert log.set_correlation_id("mine") == "mine"
    assert log.log_action("pay")["correlation_id"] == "mine"


def test_outside_of_any_there_is_none(log: StructuredLogger) -> None:
    """A fresh thread has no correlation id."""
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(log.get_correlation_id()))
    thread.start()
    thread.join()
    assert seen == [None]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a\nb", "ab"), ("x" * 500, "x" * 128), ("\x1b[31mred", "[31mred"), (7, "7")],
)
def test_ids_from_outside_are_tamed(log: StructuredLogger, given: Any, kept: str) -> None:
    """They come from headers: bounded, and without characters that could forge lines."""
    assert log.set_correlation_id(given) == kept


@pytest.mark.parametrize("nothing", ["", "\n", None])
def test_an_empty_id_is_none_given(log: StructuredLogger, nothing: str | None) -> None:
    """An id of nothing would tie unrelated things together."""
    assert len(log.set_correlation_id(nothing)) == 32


def test_correlation_comes_and_goes(log: StructuredLogger) -> None:
    """Inside the block the new id, after it the one before, also when the block raises."""
    with correlation("inner") as inner:
        assert inner == log.get_correlation_id() == "inner"
    assert log.get_correlation_id() == "outer"
    with pytest.raises(ValueError, match="inside"), correlation("inner"):
        raise ValueError("inside")
    assert log.get_correlation_id() == "outer"


def test_threads_do_not_share_an_id(log: StructuredLogger) -> None:
    """Setting it in one thread changes nothing in another."""
    set_there = threading.Event()

    def other() -> None:
        log.set_correlation_id("theirs")
        set_there.set()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert set_there.is_set()
    assert log.get_correlation_id() == "outer"


def test_carry_takes_the_id_into_a_thread(log: StructuredLogger) -> None:
    """A function carried into executors sees the caller's id, many times at the same time; what
    it sets stays its own."""
    meeting = threading.Barrier(3)

    def work() -> tuple[str | None, str]:
        before = log.get_correlation_id()
        meeting.wait(5)
        return before, log.set_correlation_id()

    carried = carry(work)
    with ThreadPoolExecutor(3) as pool:
        results = [future.result() for future in [pool.submit(carried) for _ in range(3)]]
    assert [before for before, _ in results] == ["outer"] * 3
    assert len({own for _, own in results}) == 3
    assert log.get_correlation_id() == "outer"
    assert carried.__name__ == "work"


def test_async_tasks_carry_their_id(log: StructuredLogger) -> None:
    """A task begins with its parent's id, and what it sets stays its own."""

    async def child() -> str | None:
        before = log.get_correlation_id()
        log.set_correlation_id("child")
        return before

    async def main() -> tuple[list[str | None], str | None]:
        log.set_correlation_id("parent")
        seen = await asyncio.gather(child(), child())
        return seen, log.get_correlation_id()

    assert asyncio.run(main()) == (["parent", "parent"], "parent")


def test_a_request_begins_a_correlation(log: StructuredLogger) -> None:
    """log_request gives each request an id of its own, or keeps the one it came with."""
    stream = io.StringIO()
    log.configure(stream=stream)
    first = log.log_request("/pay?token=abc", "POST", "ana")
    second = log.log_request("/pay", "POST", None, correlation_id="from-header")
    assert (len(first), second) == (32, "from-header")
    assert log.get_correlation_id() == "from-header"
    line = lines(stream)[0]
    assert line["correlation_id"] == first
    assert {key: line[key] for key in ("action", "endpoint", "method", "user_id")} == {
        "action": "request",
        "endpoint": "/pay?token=[secret]",
        "method": "POST",
        "user_id": "ana",
    }


def test_lines_of_many_threads_are_whole(log: StructuredLogger) -> None:
    """No line is torn or lost when threads write at the same time."""
    stream = io.StringIO()
    log.configure(stream=stream)
    start = threading.Barrier(4)

    def write() -> None:
        start.wait(5)
        for number in range(100):
            log.log_action("pay", number=number, text="x" * 200)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line["number"] for line in lines(stream)) == sorted(list(range(100)) * 4)
