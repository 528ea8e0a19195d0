# SPDX-License-Identifier: Apache-2.0
"""Who is not let in, and what strangers, slow peers and greedy clients cannot do."""

import contextlib
import resource
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zmq
from wire_backend import PATIENCE_S, QUICK, ask, connected, eventually, running_backend

from posefit.server.keyring import Keyring, make_client_keys, make_pair
from posefit_shared import messages
from posefit_shared.client import BackendUnavailable, Client
from posefit_shared.codec import decode, encode
from posefit_shared.key_files import read_client_keys
from posefit_shared.messages import PingRequest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")


@pytest.fixture(scope="module")
def keyring(tmp_path_factory):
    return Keyring(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, keyring):
    """A backend that lets in allowed clients only."""
    options = ["--curve", "--key-folder", str(keyring.folder), "--limits.handshake-s", "0.5"]
    with running_backend(tmp_path_factory.mktemp("guarded"), *options) as backend:
        yield backend
        assert backend.process.poll() is None, "a test has brought the backend down"


@pytest.fixture(scope="module")
def ana(keyring):
    """Keys of a client that is let in."""
    keys = make_client_keys(keyring.backend_pair().public_key)
    keyring.allow("ana", keys.public_key)
    return keys


@pytest.fixture(scope="module", autouse=True)
def _allowed_before_the_backend_starts(ana):
    """The list is read once a second; nobody has to wait for it."""


def refusal(backend, keys):
    """Why a client is not let in."""
    config = replace(QUICK, hello_timeout_s=1.0)
    with Client(backend.address, curve_keys=keys, config=config) as client:
        assert eventually(lambda: client.state.name == "refused")
        with pytest.raises(BackendUnavailable):
            client.submit(PingRequest("echo:x"))
        return client.state.reason


# Keys


def test_an_allowed_client_works_and_what_it_says_is_encrypted(guarded, ana):
    secret = "echo:nobody reads this on the way"
    with connected(guarded, curve_keys=ana) as client:
        assert ask(client, secret) == secret.removeprefix("echo:")
    assert secret not in guarded.log.read_text()


def test_a_client_whose_key_is_not_allowed_is_refused_with_the_reason(guarded, keyring):
    keys = make_client_keys(keyring.backend_pair().public_key)
    assert "does not allow this client's key" in refusal(guarded, keys)
    assert eventually(lambda: "turned away" in guarded.log.read_text())


def test_a_client_without_keys_gets_no_word_through_and_is_told_what_is_wanted(guarded, ana):
    assert "key file" in refusal(guarded, None)
    with connected(guarded, curve_keys=ana) as client:
        assert ask(client, "echo:others go on") == "others go on"


def test_a_client_that_takes_another_backend_for_its_own_says_nothing_to_it(guarded):
    keys = make_client_keys(make_pair().public_key)
    with Client(guarded.address, curve_keys=keys, config=QUICK) as client:
        assert eventually(lambda: "may not be the one" in client.state.reason)
        assert client.welcome is None


def test_a_client_with_keys_never_falls_back_to_plain_text(small, ana):
    before = small.log.read_text().count("connects")
    assert "no encryption" in refusal(small, ana)
    assert small.log.read_text().count("connects") == before


def test_a_public_key_alone_opens_nothing(guarded, ana):
    """Whoever knows ana's public key but not her secret one is not her."""
    impostor = make_client_keys(ana.server_key)
    forged = type(ana)(ana.public_key, impostor.secret_key, ana.server_key)
    with Client(guarded.address, curve_keys=forged, config=QUICK) as client:
        assert not eventually(lambda: client.welcome is not None, 0.6)


def test_a_client_allowed_while_the_backend_runs_comes_in_and_revoked_is_cut_off(guarded, keyring):
    keys = make_client_keys(keyring.backend_pair().public_key)
    keyring.allow("new", keys.public_key)
    time.sleep(1.2)  # the list is read again once a second
    with connected(guarded, curve_keys=keys) as client:
        assert ask(client, "echo:in") == "in"
        client.submit(PingRequest("steps:60"))
        keyring.revoke("new")
        assert eventually(lambda: client.state.name == "refused")
        assert "revoked" in client.state.reason
    assert "does not allow" in refusal(guarded, keys)


def test_a_session_belongs_to_the_key_that_opened_it(guarded, keyring, ana):
    keys = make_client_keys(keyring.backend_pair().public_key)
    keyring.allow("thief", keys.public_key)
    time.sleep(1.2)
    with (
        connected(guarded, curve_keys=ana) as owner,
        connected(guarded, curve_keys=keys, session=owner.session) as thief,
    ):
        assert not thief.welcome.resumed
        assert thief.session != owner.session
        assert ask(owner, "echo:still mine") == "still mine"


def test_a_backend_started_for_one_program_answers_that_program_alone(tmp_path, ana):
    file = tmp_path / "launch.keys"
    with running_backend(tmp_path, "--launch-keys", str(file)) as backend:
        keys = read_client_keys(file)
        command = Path(f"/proc/{backend.process.pid}/cmdline").read_text()
        assert keys.secret_key not in command
        with connected(backend, curve_keys=keys) as client:
            assert ask(client, "echo:mine") == "mine"
        assert "key file" in refusal(backend, None)
        stranger = type(ana)(ana.public_key, ana.secret_key, keys.server_key)
        assert "does not allow" in refusal(backend, stranger)
    assert not file.exists()


# Peers that are slow or silent


def test_a_connection_that_says_nothing_is_dropped(guarded):
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=PATIENCE_S) as mute:
        while mute.recv(4096):  # the greeting, then the end
            pass


def test_a_flood_of_silent_connections_stops_nobody_who_is_in_and_passes(guarded, ana):
    """The backend runs out of file descriptors, and has them again when the mute are dropped."""
    pid = guarded.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with connected(guarded, curve_keys=ana) as inside, contextlib.ExitStack() as flood:
            for _ in range(100):
                mute = flood.enter_context(socket.socket())
                mute.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    mute.connect(("127.0.0.1", guarded.port))
            assert ask(inside, "echo:goes on") == "goes on"
            with connected(guarded, curve_keys=ana) as late:
                assert ask(late, "echo:comes in") == "comes in"
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


# Clients that want too much


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A backend on plain loopback with tight bounds."""
    options = ["--limits.session-bytes", str(4 << 20), "--limits.sessions", "4"]
    options += ["--limits.wire.message-bytes", str(3 << 20)]
    with running_backend(tmp_path_factory.mktemp("small"), *options) as backend:
        yield backend
        assert backend.process.poll() is None, "a test has brought the backend down"


@pytest.fixture
def stranger(small):
    """A bare socket that may say anything."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(small.address)
    yield dealer
    dealer.send_multipart(encode(messages.Goodbye()))
    context.destroy(linger=1000)


def test_a_client_that_fetches_nothing_is_refused_before_it_fills_the_memory(small, stranger):
    stranger.send_multipart(encode(messages.Hello(messages.PROTOCOL_VERSION)))
    data = np.zeros(250_000, np.float32)
    for number in range(12):
        submit = messages.Submit(f"job {number}", PingRequest("echo:x", data))
        stranger.send_multipart(encode(submit))
        time.sleep(0.05)
    reasons = [m.message for m in heard(stranger) if isinstance(m, messages.Failure)]
    assert len(reasons) > 6
    assert all("fetch" in reason for reason in reasons)
    with connected(small) as client:
        assert ask(client, "echo:others have room") == "others have room"


def heard(dealer):
    """Everything that arrives until nothing more does."""
    while dealer.poll(500):
        yield decode(dealer.recv_multipart())


def test_saying_hello_again_and_again_takes_no_other_clients_place(small, stranger):
    for _ in range(20):
        stranger.send_multipart(encode(messages.Hello(messages.PROTOCOL_VERSION)))
    answers = list(heard(stranger))
    assert not [answer for answer in answers if isinstance(answer, messages.Refused)]
    with connected(small) as client:
        assert ask(client, "echo:room") == "room"


def test_clients_beyond_the_limit_are_told_to_come_later(small):
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connected(small))
        with Client(small.address, config=QUICK) as late:
            assert eventually(lambda: "try again later" in late.state.reason)
            stack.close()
            assert late.wait_ready(PATIENCE_S)
