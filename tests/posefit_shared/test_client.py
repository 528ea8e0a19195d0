# SPDX-License-Identifier: Apache-2.0
"""The client without a backend, and its side of the protocol without a socket."""

import os
import sys
import threading
import time

import numpy as np
import pytest
import zmq
from zmq.utils import z85

from posefit_shared import messages
from posefit_shared.addresses import AddressError, check_address, needs_keys
from posefit_shared.client import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    Client,
    ClientConfig,
    CurveKeys,
    JobFailed,
    StateChanged,
)
from posefit_shared.client.conversation import MAX_DAMAGES, Conversation, PendingJob
from posefit_shared.client.inbox import Inbox
from posefit_shared.codec import decode, encode
from posefit_shared.content import read_content
from posefit_shared.messages import PROTOCOL_VERSION, PingRequest, PingResult, Welcome

QUICK = ClientConfig(hello_timeout_s=0.2, silence_limit_s=0.4, retry_s=0.02, retry_limit_s=0.05)
NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture
def router():
    """A socket where a backend would listen, and its address."""
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.rcvtimeo = 10_000
    socket.bind("tcp://127.0.0.1:*")
    yield socket, socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
    context.destroy(linger=0)


def welcome(session="token", **more):
    return Welcome(PROTOCOL_VERSION, "0", session, **({"credit": 3, "heartbeat_s": 0.05} | more))


def hear(socket, kind):
    """The next message of a kind, and who sent it."""
    while True:
        identity, *parts = socket.recv_multipart()
        message = decode(parts)
        if isinstance(message, kind):
            return identity, message


def say(socket, identity, message):
    socket.send_multipart([identity, *encode(message)])


def eventually(condition, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# Addresses


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:5557", "tcp://127.8.9.1:1", "tcp://[::1]:80", "tcp://localhost:9",
                "ipc:///tmp/x"],
)  # fmt: skip
def test_loopback_addresses_need_no_keys(address):
    assert check_address(address) == address
    assert not needs_keys(address)


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:5557", "tcp://*:5557", "tcp://192.168.1.2:80", "tcp://[::]:80",
                "tcp://example.org:80", "tcp://127.0.0.1.example.org:80", "tcp://1270.0.0.1:80"],
)  # fmt: skip
def test_other_machines_need_keys_and_the_error_says_so(address):
    with pytest.raises(AddressError, match="needs keys"):
        check_address(address)
    assert check_address(address, has_keys=True) == address
    assert needs_keys(address)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:80", "http://127.0.0.1:80", "tcp://127.0.0.1", "tcp://:80",
                "tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://127.0.0.1:99999", "tcp://a:b:80",
                "tcp://127.0.0.1:80;tcp://0.0.0.0:81", "inproc://x"],
)  # fmt: skip
def test_malformed_addresses_are_refused(address):
    with pytest.raises(AddressError):
        check_address(address, has_keys=True)


def test_a_client_of_another_machine_is_not_made_without_keys():
    with pytest.raises(BackendUnavailable, match="needs keys"):
        Client("tcp://192.168.1.2:5557")


# Without a backend


def test_without_a_backend_the_state_says_so_in_plain_words():
    with Client(NOBODY, config=QUICK) as client:
        assert eventually(lambda: client.state.name == "lost")
        assert "No backend answers" in client.state.reason
        assert any(isinstance(event, StateChanged) for event in client.poll())


def test_no_call_blocks_without_a_backend():
    with Client(NOBODY, config=QUICK) as client:
        start = time.monotonic()
        job = client.submit(PingRequest("x"))
        client.cancel(job)
        client.upload(b"content")
        client.poll()
        assert time.monotonic() - start < 0.5


def test_waiting_ends_with_the_time_given():
    with Client(NOBODY, config=QUICK) as client:
        with pytest.raises(BackendTimeout, match=r"0\.1 s"):
            client.wait(client.submit(PingRequest("x")), 0.1)
        with pytest.raises(BackendUnavailable):
            client.wait_ready(0.1)


def test_a_closed_client_refuses_in_words_and_closes_twice():
    client = Client(NOBODY)
    client.start()
    client.close()
    client.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        client.submit(PingRequest("x"))
    assert client.state.name == "closed"


def test_closing_wakes_whoever_waits():
    client = Client(NOBODY, config=QUICK)
    client.start()
    errors = []

    def wait():
        try:
            client.wait("some job", 30)
        except BackendError as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.1)
    client.close()
    waiter.join(5)
    assert not waiter.is_alive()
    assert isinstance(errors[0], BackendUnavailable)


def test_closing_leaves_no_thread_behind():
    before = threading.active_count()
    for _ in range(5):
        with Client(NOBODY, config=QUICK):
            pass
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="forking with threads warns")
def test_a_client_does_not_work_in_a_forked_process():
    with Client(NOBODY, config=QUICK) as client:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                client.submit(PingRequest("x"))
            except BackendUnavailable as error:
                status = 0 if "after a fork" in str(error) else 2
            client.close()  # must not hang either
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_that_cannot_be_read_is_an_error_in_words(tmp_path):
    client = Client(NOBODY)
    with pytest.raises(BackendError, match="cannot read"):
        client.upload(tmp_path / "none.png")


# With a socket that a test answers


def test_heartbeats_go_out_and_silence_is_noticed(router):
    socket, address = router
    with Client(address, config=QUICK) as client:
        identity, _ = hear(socket, messages.Hello)
        say(socket, identity, welcome())
        hear(socket, messages.Heartbeat)
        hear(socket, messages.Heartbeat)
        assert client.state.name == "ready"
        assert eventually(lambda: client.state.name == "lost")
        assert "stopped answering" in client.state.reason
        identity, hello = hear(socket, messages.Hello)
        assert hello.session == "token"  # it looks for its jobs
        say(socket, identity, welcome(resumed=True))
        assert eventually(lambda: client.state.name == "ready")


def test_a_backend_that_says_garbage_is_called_again(router):
    socket, address = router
    with Client(address, config=QUICK) as client:
        identity, _ = hear(socket, messages.Hello)
        socket.send_multipart([identity, b"\xc1", b"garbage"])
        again, _ = hear(socket, messages.Hello)
        assert again != identity
        say(socket, again, welcome())
        assert eventually(lambda: client.state.name == "ready")


def test_a_network_that_damages_every_message_ends_the_job_in_words(router):
    socket, address = router
    with Client(address, config=QUICK) as client:
        job = client.submit(PingRequest("x"))
        for _ in range(MAX_DAMAGES + 1):
            identity, _ = hear(socket, messages.Hello)
            say(socket, identity, welcome())
            hear(socket, messages.Submit)
            parts = [bytes(part) for part in encode(messages.Accepted(job))]
            socket.send_multipart([identity, parts[0].replace(b"accepted", b"accepter")])
        with pytest.raises(JobFailed, match="check the network"):
            client.wait(job, 10)


def test_a_revision_that_a_later_one_overtook_is_not_told(router):
    socket, address = router
    with Client(address, config=QUICK) as client:
        job = client.submit(PingRequest("x"))
        identity, _ = hear(socket, messages.Hello)
        say(socket, identity, welcome())
        hear(socket, messages.Submit)
        for revision in (1, 0, 2):
            text = PingResult(str(revision))
            say(socket, identity, messages.Result(job, "ping", revision, revision == 2, text))
        told = []
        assert eventually(lambda: told.extend(
            event for event in client.poll() if isinstance(event, messages.Result)
        ) or (told and told[-1].final))  # fmt: skip
        assert [result.revision for result in told] == [1, 2]


def test_a_job_cancelled_before_the_backend_knew_of_it_is_cancelled_again(router):
    socket, address = router
    with Client(address, config=QUICK) as client:
        job = client.submit(PingRequest("x"))
        identity, _ = hear(socket, messages.Hello)
        say(socket, identity, welcome())
        hear(socket, messages.Submit)
        client.cancel(job)
        hear(socket, messages.Cancel)
        say(socket, identity, messages.Cancelled(job))  # the submission is still on its way
        say(socket, identity, messages.Accepted(job))
        assert hear(socket, messages.Cancel)[1].job == job


def test_a_refused_version_ends_the_attempts_and_says_why(router):
    socket, address = router
    with Client(address, config=QUICK) as client:
        identity, _ = hear(socket, messages.Hello)
        job = client.submit(PingRequest("x"))
        say(socket, identity, messages.Refused("protocol_version", "Update the client."))
        assert eventually(lambda: client.state.name == "refused")
        with pytest.raises(BackendUnavailable, match="Update the client"):
            client.submit(PingRequest("x"))
        with pytest.raises(BackendUnavailable, match="Update the client"):
            client.wait(job, 30)
        assert socket.poll(200) == 0, "it knocks again"


def test_keys_encrypt_the_connection():
    if not zmq.has("curve"):
        pytest.skip("this zmq has no CURVE")
    server_public, server_secret = zmq.curve_keypair()
    public, secret = zmq.curve_keypair()
    context = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.curve_server, socket.curve_secretkey, socket.rcvtimeo = True, server_secret, 10_000
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    keys = CurveKeys(*(z85.decode(key).hex() for key in (public, secret, server_public)))
    try:
        with Client(f"tcp://127.0.0.1:{port}", curve_keys=keys, config=QUICK) as client:
            identity, _ = hear(socket, messages.Hello)
            say(socket, identity, welcome())
            assert eventually(lambda: client.state.name == "ready")
    finally:
        context.destroy(linger=0)


# The conversation, without a socket


class Talk:
    """A conversation and what came of it."""

    def __init__(self):
        self.events = []
        self.conversation = Conversation("test", "0", None, self.events.append)

    def submit(self, job="job", hashes=()):
        parts = encode(messages.Submit(job, PingRequest("x")))
        self.conversation.submit(PendingJob(job, parts, tuple(hashes)))

    def open(self, **more):
        self.conversation.open_session(welcome(**more))

    def reopen(self, **more):
        self.conversation.lose_connection()
        self.open(**more)

    def said(self, kind=messages.Message):
        out = []
        while (parts := self.conversation.next_parts()) is not None:
            out.append(decode([bytes(part) for part in parts]))
        return [message for message in out if isinstance(message, kind)]

    def hear(self, *heard):
        for message in heard:
            self.conversation.receive(message)


@pytest.fixture
def talk():
    return Talk()


def test_nothing_is_said_before_the_welcome(talk):
    talk.submit()
    assert talk.said() == []
    talk.open()
    assert [message.NAME for message in talk.said()] == ["submit"]


def test_no_more_is_sent_than_the_credit_allows(talk):
    for k in range(10):
        talk.submit(str(k))
    talk.open()
    assert len(talk.said()) == 3
    talk.hear(messages.Credit(2))
    assert len(talk.said()) == 2


def test_an_upload_is_sent_only_if_it_is_missing_and_its_job_waits_for_it(talk):
    content = read_content(bytes(5), "body")
    talk.conversation.upload(content)
    talk.submit(hashes=[content.content_hash])
    talk.open(limits=messages.Limits(chunk_bytes=2))
    assert talk.said() == [messages.Have((content.content_hash,))]
    asked = (content.content_hash,)
    talk.hear(messages.Missing(asked, asked=asked))
    sent = talk.said()
    assert [message.NAME for message in sent] == ["upload", "upload", "upload"]
    assert b"".join(message.data.tobytes() for message in sent) == bytes(5)
    talk.hear(messages.Credit(3))
    assert [message.NAME for message in talk.said()] == ["upload_done"]
    talk.hear(messages.Stored(content.content_hash))
    assert [message.NAME for message in talk.said()] == ["submit"]
    assert talk.events == [messages.Stored(content.content_hash)]


def test_content_that_the_backend_has_is_not_sent(talk):
    content = read_content(b"known")
    talk.conversation.upload(content)
    talk.open()
    talk.said()
    talk.hear(messages.Missing((), asked=(content.content_hash,)))
    assert talk.said() == []
    assert talk.events == [messages.Stored(content.content_hash)]


def test_an_interrupted_upload_starts_again(talk):
    content = read_content(bytes(5))
    asked = (content.content_hash,)
    talk.conversation.upload(content)
    talk.open(limits=messages.Limits(chunk_bytes=2), credit=1)
    talk.said()
    talk.hear(messages.Missing(asked, asked=asked))
    assert [message.offset for message in talk.said()] == [0]
    talk.reopen(limits=messages.Limits(chunk_bytes=2), credit=1)
    assert talk.said() == [messages.Have(asked)]
    talk.hear(messages.Missing(asked, asked=asked))
    assert [message.offset for message in talk.said()] == [0]


def test_a_file_that_vanishes_before_its_upload_fails_the_jobs_that_need_it(talk, tmp_path):
    path = tmp_path / "film"
    path.write_bytes(b"film")
    content = read_content(path)
    talk.conversation.upload(content)
    talk.submit(hashes=[content.content_hash])
    path.unlink()
    talk.open()
    talk.said()
    talk.hear(messages.Missing((content.content_hash,), asked=(content.content_hash,)))
    assert talk.said() == []
    assert [event.job for event in talk.events] == [None, "job"]
    assert all(event.kind == "content" for event in talk.events)


def test_a_job_whose_content_was_evicted_is_sent_again_after_the_upload(talk):
    content = read_content(b"body")
    talk.conversation.upload(content)
    talk.open()
    talk.said()
    talk.hear(messages.Missing((), asked=(content.content_hash,)))
    talk.submit(hashes=[content.content_hash])
    talk.said()
    talk.hear(messages.Missing((content.content_hash,), "job"))
    assert talk.said() == [messages.Have((content.content_hash,))]


def test_a_job_with_content_that_nobody_has_fails(talk):
    talk.submit(hashes=["0" * 64])
    talk.open()
    talk.said()
    talk.hear(messages.Missing(("0" * 64,), "job"))
    assert talk.events[-1].kind == "content"
    assert talk.events[-1].job == "job"


def test_a_backend_that_knows_the_job_is_not_given_it_twice(talk):
    talk.submit()
    talk.open()
    talk.said()
    talk.reopen(resumed=True, jobs=("job",))
    assert talk.said() == []


def test_a_backend_that_has_restarted_is_given_the_job_once_more_and_not_twice(talk):
    talk.submit()
    talk.open()
    talk.said()
    talk.hear(messages.Accepted("job"))
    talk.reopen(session="another")
    assert [message.NAME for message in talk.said()] == ["submit"]
    talk.hear(messages.Accepted("job"))
    talk.reopen(session="a third")
    assert talk.said() == []
    assert talk.events[-1].kind == "lost"


def test_a_job_that_no_backend_ever_accepted_is_sent_as_often_as_needed(talk):
    talk.submit()
    talk.open()
    for _ in range(5):
        assert [message.NAME for message in talk.said()] == ["submit"]
        talk.reopen(session="another")


def test_a_cancelled_job_is_not_given_to_a_backend_that_has_restarted(talk):
    talk.submit()
    talk.open()
    talk.said()
    talk.conversation.cancel("job")
    talk.reopen(session="another")
    assert talk.said() == []
    assert talk.events == [messages.Cancelled("job")]


def test_a_cancellation_is_repeated_after_a_lost_connection(talk):
    talk.submit()
    talk.open()
    talk.said()
    talk.conversation.cancel("job")
    talk.reopen(resumed=True, jobs=("job",))
    assert talk.said() == [messages.Cancel("job")]


def test_a_job_that_was_never_sent_is_cancelled_on_this_side(talk):
    talk.submit()
    talk.conversation.cancel("job")
    assert talk.events == [messages.Cancelled("job")]
    talk.open()
    assert talk.said() == []


def test_a_revision_that_comes_twice_is_shown_once_and_acknowledged_again(talk):
    talk.submit()
    talk.open()
    talk.said()
    result = messages.Result("job", "ping", 0, False, PingResult("x"))
    talk.hear(result, result)
    assert talk.events == [result]
    assert talk.said() == [messages.Acknowledge("job", 0)]


def test_a_result_that_was_shown_is_not_shown_again_after_a_lost_connection(talk):
    """Its acknowledgement was lost, so the backend still has it and sends it again."""
    talk.submit()
    talk.open()
    talk.said()
    result = messages.Result("job", "ping", 0, True, PingResult("x"))
    talk.hear(result)
    talk.reopen(resumed=True, jobs=("job",))
    talk.said()
    talk.hear(result)
    assert talk.events == [result]
    assert talk.said() == [messages.Acknowledge("job", 0)]


def test_a_reply_without_a_waiting_job_is_dropped_but_acknowledged(talk):
    talk.open()
    talk.hear(messages.Result("other", "ping", 4, True, PingResult("x")))
    talk.hear(messages.Progress("other", 0.5))
    assert talk.events == []
    assert talk.said() == [messages.Acknowledge("other", 4)]


def test_jobs_of_an_earlier_client_are_adopted_through_the_session(talk):
    talk.open(resumed=True, jobs=("old",))
    result = messages.Result("old", "ping", 0, True, PingResult("x"))
    talk.hear(result)
    assert talk.events == [result]


# The inbox


def test_progress_that_nobody_took_is_replaced_by_newer_progress():
    inbox = Inbox()
    for fraction in (0.1, 0.2, 0.3):
        inbox.put(messages.Progress("a", fraction))
    inbox.put(messages.Progress("b", 0.5))
    assert inbox.take_all() == [messages.Progress("a", 0.3), messages.Progress("b", 0.5)]


def test_taking_one_jobs_event_leaves_the_others_in_order():
    inbox = Inbox()
    data = np.zeros(3, np.float32)
    results = [messages.Result(job, "ping", 0, True, PingResult("", data)) for job in "abc"]
    for result in results:
        inbox.put(result)
    taken = inbox.take_first(lambda e: e.job == "b", time.monotonic() + 1, lambda: False)
    assert taken is results[1]
    assert [event.job for event in inbox.take_all()] == ["a", "c"]
