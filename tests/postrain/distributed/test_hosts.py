"""Three hosts for real: network namespaces on a bridge, one of them cut off, and restored to the same bits."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postrain import checkpoint, run
from tests.postrain.distributed.test_processes import environment
from tests.postrain.distributed.test_training import CONFIG, config

HOSTS = 3
IP = shutil.which("ip") or ""
TRAIN = """
import sys
from pathlib import Path
from postrain import cli
sys.exit(cli.main(["train", sys.argv[1], "--out", sys.argv[2]]))
"""


def ip(*words: str) -> None:
    subprocess.run([IP, *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of three namespaces, 10.77.0.1 to 10.77.0.3, each with its cable to one bridge."""
    if not IP:
        pytest.skip("needs the program ip (Debian's iproute2)")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    tag = f"pt{os.getpid() % 10000}"
    names = [f"{tag}h{host}" for host in range(HOSTS)]
    try:
        try:
            ip("link", "add", f"{tag}br", "type", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine lets root make no network devices: {error.stderr.strip()}")
        ip("link", "set", f"{tag}br", "up")
        for host, name in enumerate(names):
            ip("netns", "add", name)
            ip("link", "add", f"{name}o", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}o", "master", f"{tag}br", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{host + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run([IP, "netns", "del", name], check=False, capture_output=True)
            subprocess.run([IP, "link", "del", f"{name}o"], check=False, capture_output=True)
        subprocess.run([IP, "link", "del", f"{tag}br"], check=False, capture_output=True)


def start(names: list[str], port: int, folder: Path, seconds: int) -> list["subprocess.Popen[str]"]:
    """One rank on each host; each has a folder of its own, as hosts without common disks have."""
    shared = environment(
        MASTER_ADDR="10.77.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(HOSTS), LOCAL_WORLD_SIZE="1",
        POSTRAIN_TIMEOUT=str(seconds), GLOO_SOCKET_IFNAME="eth0",
    )  # fmt: skip
    command = [sys.executable, "-c", TRAIN, str(folder / "run.toml")]
    return [
        subprocess.Popen(
            [IP, "netns", "exec", name, *command, str(folder / f"host{rank}")],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": "0"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, name in enumerate(names)
    ]  # fmt: skip


@pytest.mark.exhaustive
def test_three_hosts_one_cut_off_and_restored(hosts: list[str], tmp_path: Path) -> None:
    text = CONFIG.replace("epochs = 1", "iterations = 200").replace(
        "evaluate_every = 2", "evaluate_every = 200"
    )
    (tmp_path / "run.toml").write_text(text)
    settings = ("train.micro_batch=20", "train.evaluate_every=200")
    plain = config(*settings)
    alone = run.train(
        replace(plain, plan=replace(plain.plan, epochs=None, iterations=200)),
        tmp_path / "alone",
        figures=False,
    )
    first = start(hosts, 29611, tmp_path, 40)
    while len(checkpoint.all_of(tmp_path / "host0")) < 2:
        assert all(each.poll() is None for each in first), [each.communicate() for each in first]
        time.sleep(0.02)
    ip("-n", hosts[2], "link", "set", "eth0", "down")
    cut = time.monotonic()
    try:
        said = [each.communicate(timeout=40 + 6 + 30) for each in first]
    finally:
        for each in first:
            each.kill()
    assert time.monotonic() - cut < 40 + 6 + 30  # timeout, roll call, and a busy machine
    for rank in (0, 1):
        assert first[rank].returncode == 2
        assert "rank 2 of 3 does not answer" in said[rank][1], said[rank]
    assert first[2].returncode == 2
    assert "rank 2 of 3 lost the others" in said[2][1] or "does not answer" in said[2][1], said[2]
    assert not (tmp_path / "host1").exists()  # rank 0 alone writes
    ip("-n", hosts[2], "link", "set", "eth0", "up")
    second = start(hosts, 29612, tmp_path, 120)
    said = [each.communicate(timeout=400) for each in second]
    assert [each.returncode for each in second] == [0, 0, 0], said
    assert alone.digest in said[0][0]
