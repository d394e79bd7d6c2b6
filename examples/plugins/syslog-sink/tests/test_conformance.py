from __future__ import annotations

import re
import socket
import threading

import pytest
from example_syslog_sink import lowcode_faas_log_sink

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.testing.log_sink_contract import LogSinkContract
from lowcode_faas_core.testing.samples import sample_event

MESSAGE = re.compile(
    r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) (\S+) lowcode-faas - - "
    r"\[event@32473 (.*?[^\\])\] \ufeff(.*)",
    re.DOTALL,
)


#: Datagrams of the receiver's own: all before this one has come; it may end.
MARK, END = b"mark", b"end"


class Receiver:
    """A syslog daemon that keeps what it gets."""

    def __init__(self, listening):
        self._socket = listening
        self.datagrams = []
        self._marked = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self):
        while (datagram := self._socket.recv(1 << 16)) != END:
            if datagram == MARK:
                self._marked.release()
            else:
                self.datagrams.append(datagram)

    def _tell(self, word):
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as sending:
            sending.sendto(word, self._socket.getsockname())

    def messages(self):
        """Return one text an event, its parts joined."""
        self._tell(MARK)
        assert self._marked.acquire(timeout=10)
        events = []
        for datagram in self.datagrams:
            _, _, _, data, text = MESSAGE.fullmatch(datagram.decode()).groups()
            part = re.search(r' part="(\d+)"', data)
            if part and part[1] != "1":
                events[-1] += text
            else:
                events.append(text)
        return events

    def end(self):
        self._tell(END)
        self._thread.join()
        self._socket.close()


@pytest.fixture(params=["unix", "udp"])
def receiver(request, tmp_path):
    if request.param == "unix":
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = str(tmp_path / "log")
        listening.bind(path)
        address = f"unix://{path}"
    else:
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listening.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{listening.getsockname()[1]}"
    receiver = Receiver(listening)
    receiver.address = address
    yield receiver
    receiver.end()


def sink_to(address, **more):
    return lowcode_faas_log_sink({"LOWCODE_FAAS_EXAMPLE_SYSLOG_ADDRESS": address, **more})


class TestSyslogSink(LogSinkContract):
    @pytest.fixture
    def sink(self, receiver):
        sink = sink_to(receiver.address)
        yield sink
        sink.close()

    @pytest.fixture
    def read(self, receiver):
        return receiver.messages

    @pytest.fixture
    def broken(self, tmp_path):
        return sink_to(f"unix://{tmp_path / 'nobody'}")


def test_a_message_is_one_of_the_standard(receiver):
    sink = sink_to(receiver.address, LOWCODE_FAAS_EXAMPLE_SYSLOG_FACILITY="local3")
    sink.emit([sample_event(7, "two\nlines", level="error", run_id='a"]\\', late=True)])
    sink.close()
    receiver.messages()
    priority, time, _, data, text = MESSAGE.fullmatch(receiver.datagrams[0].decode()).groups()
    assert int(priority) == 19 * 8 + 3
    assert time == "2026-01-02T03:04:05.123456Z"
    assert 'function="org/team/greet" version="3"' in data
    assert 'run_id="a\\"\\]\\\\"' in data
    assert data.endswith('seq="7" late="true"')
    assert text == "two\\x0alines"


def test_no_part_is_longer_than_allowed_nor_cuts_a_character(receiver):
    sink = sink_to(receiver.address, LOWCODE_FAAS_EXAMPLE_SYSLOG_MAX_BYTES="1024")
    sink.emit([sample_event(1, "ü🙂" * 2000)])
    sink.close()
    assert receiver.messages() == ["ü🙂" * 2000]
    assert len(receiver.datagrams) > 10
    assert max(map(len, receiver.datagrams)) <= 1024


def test_a_receiver_that_was_restarted_gets_the_next_event(tmp_path):
    path = tmp_path / "log"
    sink = sink_to(f"unix://{path}")
    for number in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(path))
            sink.emit([sample_event(number, f"event {number}")])
            assert listening.recv(4096).endswith(f"event {number}".encode())
        path.unlink()
    sink.close()


@pytest.mark.parametrize("value", ["tcp://x:1", "udp://", "unix://x/y", "udp://a:x", "/dev/log"])
def test_an_address_that_is_none_names_its_variable(value):
    with pytest.raises(ConfigurationError, match="EXAMPLE_SYSLOG_ADDRESS must be unix:///path"):
        sink_to(value)
