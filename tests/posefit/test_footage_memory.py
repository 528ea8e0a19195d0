# SPDX-License-Identifier: Apache-2.0
"""Films that claim whatever they like, and the memory that they get: measured in a process."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from posefit.footage import FootageError, bounded_memory, open_footage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and RLIMIT_DATA of Linux")
CASES = Path(__file__).parent / "fuzz_cases" / "footage"
GREEDY = (
    "tables_of_89_million_pictures",
    "six_tables_of_25_million_pictures",
    "fragments_of_40_million_pictures",
)
"""3 to 10 kB; unbounded they took 3.1, 5.3 and 2.8 GB and 10 to 13 s."""
PROGRAM = """
import sys
from posefit.footage import FootageError, open_footage

def most():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10

import posefit.footage.video
before = most()
try:
    footage = open_footage(sys.argv[1])
    for k in range(len(footage)):
        footage.read(k)
    print("read")
except FootageError as error:
    print("refused", error)
print(most() - before)
"""


def opened_elsewhere(path: Path) -> tuple[str, int]:
    """What another process says of a film, and the MiB by which it grew at most."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    words, grown = run.stdout.splitlines()
    return words, int(grown)


@pytest.fixture
def film(tmp_path):
    """Four pictures."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        for shade in range(4):
            picture = np.full((64, 64, 3), 60 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", GREEDY)
def test_a_film_that_claims_millions_of_pictures_gets_no_memory_for_them(name):
    words, grown_mib = opened_elsewhere(CASES / name)
    assert words.startswith("refused")
    assert grown_mib < 128


def test_a_film_that_is_one_is_read_in_the_same_memory(film):
    words, grown_mib = opened_elsewhere(film)
    assert words == "read"
    assert grown_mib < 128


def test_the_sentence_says_that_it_is_memory():
    with pytest.raises(FootageError, match="more memory than a film of this size can be worth"):
        open_footage(CASES / "fragments_of_40_million_pictures")


def test_the_bound_is_gone_when_a_film_is_open_and_when_one_was_refused(film):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with open_footage(film) as footage:
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
        assert np.unique(footage.read(3)).min() > 170
    with pytest.raises(FootageError):
        open_footage(CASES / GREEDY[2])
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_within_the_bound_nothing_beyond_it_can_be_had():
    with bounded_memory.bounded_memory(64 << 20):
        small = bytearray(16 << 20)
        with pytest.raises(MemoryError):
            bytearray(256 << 20)
    assert len(bytearray(256 << 20)) > len(small)


def test_films_opened_by_many_threads_at_once_leave_no_bound_behind(film):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    found = []

    def read():
        for _ in range(5):
            with open_footage(film) as footage:
                found.append(footage.read(1).shape)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(64, 64, 3)] * 20
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_bound_that_is_there_already_is_not_raised(film):
    code = (
        "import resource; from posefit.footage import open_footage;"
        "resource.setrlimit(resource.RLIMIT_DATA, (900 << 20, 900 << 20));"
        f"print(len(open_footage({str(film)!r})));"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout.split() == ["4", "900"]


def test_larger_files_get_more_room_and_no_file_gets_it_all():
    rooms = [bounded_memory.room_for(size) for size in (0, 3000, 10 << 20, 1 << 40)]
    assert rooms == sorted(rooms)
    assert rooms[0] == bounded_memory.ROOM_BYTES
    assert rooms[-1] == bounded_memory.MOST_ROOM


def test_ffmpegs_library_is_found_beside_pyav():
    assert bounded_memory.bound_single_allocations()
