"""SIGHUP, or a new certificate, has the settings read anew, with no request lost; and a start that waits obeys."""

import contextlib
import fcntl
import json
import os
import signal
import sqlite3
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from otel_telemetry.gateway.spool import spool_file
from tests.exporters.certificates import authority
from tests.gateway.served import Served
from tests.waiting import eventually

OLD, NEW = "ingest:old-key-0123456789", "ingest:new-key-0123456789"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, api_keys=[OLD], workers=2)
    yield made
    made.close()


def log_record(text: str) -> bytes:
    attributes = [{"key": "house.note", "value": {"stringValue": f"a note of {text}"}}]
    record = {"body": {"stringValue": text}, "attributes": attributes}
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


@pytest.mark.parametrize("workers", [0, 2])
def test_sighup_changes_keys_without_losing_a_request(served: Served, workers: int) -> None:
    served.write(workers=workers)
    served.start()
    eventually(lambda: served.answers(OLD))
    served.write(api_keys=[OLD, NEW])
    answers: Counter[object] = Counter()
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                answers[served.post(OLD)] += 1
            except OSError as error:
                answers[repr(error)] += 1

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    served.signal(signal.SIGHUP)
    eventually(lambda: "as the settings say now" in served.logged or served.logged.count("is replaced") == 3)
    eventually(lambda: [served.post(NEW) for _ in range(4)] == [200] * 4)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {200}, answers
    served.write(api_keys=[NEW])
    served.signal(signal.SIGHUP)
    eventually(lambda: [served.post(OLD) for _ in range(4)] == [401] * 4)
    assert served.post(NEW) == 200


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "broken",
    ["[gateway]\nno_such = 1\n", f"[gateway]\nworkers = {'9' * 5000}\n", '[redaction]\npolicy = "absent.toml"\n'],
    ids=["unknown", "no number", "policy"],
)
def test_settings_that_are_wrong_change_nothing_and_are_told(served: Served, broken: str, workers: int) -> None:
    served.write(workers=workers)
    served.start()
    eventually(lambda: served.answers(OLD))
    (served.folder / "otel-telemetry.toml").write_text(broken)
    served.signal(signal.SIGHUP)
    eventually(lambda: "all goes on as before" in served.logged)
    assert served.post(OLD) == 200


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["no file", "empty file", "no keys"])
def test_a_gateway_with_keys_does_not_become_one_without(served: Served, how: str, workers: int) -> None:
    """A file may be away or half written for a moment, as where an editor or Kubernetes puts another in its place."""
    served.write(workers=workers)
    served.start()
    eventually(lambda: served.answers(OLD))
    file = served.folder / "otel-telemetry.toml"
    before = file.read_text()
    if how == "no file":
        file.unlink()
    else:
        file.write_text("" if how == "empty file" else before.replace(OLD, "").replace('""', ""))
    served.signal(signal.SIGHUP)
    eventually(lambda: "all goes on as before" in served.logged)
    assert ("not there any more" if how == "no file" else "gateway.api_keys") in served.logged
    assert (served.post("ingest:no-key"), served.post(OLD)) == (401, 200)
    file.write_text(before)
    served.signal(signal.SIGHUP)
    eventually(lambda: "as the settings say now" in served.logged or "settings are read anew" in served.logged)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_new_certificate_is_shown_without_being_asked_to(served: Served, workers: int) -> None:
    first, second = (authority(served.folder, name) for name in ("first", "second"))
    certificate, key = served.folder / "cert.pem", served.folder / "key.pem"

    def use(made: tuple[Path, Path]) -> None:
        for target, source in zip((certificate, key), made, strict=True):
            target.write_bytes(source.read_bytes())

    use(first)
    served.write(tls_certificate=str(certificate), tls_key=str(key), workers=workers)
    served.start()

    def trusted(made: tuple[Path, Path]) -> bool:
        context = ssl.create_default_context(cafile=str(made[0]))
        context.check_hostname = False
        try:
            return served.post(OLD, "https", context) == 200
        except OSError:
            return False

    def shown_to_grpc() -> str:
        return ssl.get_server_certificate(("127.0.0.1", served.gateway["grpc_port"])).strip()

    eventually(lambda: trusted(first))
    use(second)
    eventually(lambda: trusted(second))
    eventually(lambda: shown_to_grpc() in second[0].read_text())


def _serves(served: Served, context: ssl.SSLContext) -> bool:
    with contextlib.suppress(OSError):
        return served.post(OLD, "https", context) == 200
    return False


def _told_again(served: Served, before: int) -> bool:
    return served.logged.count("all goes on as before") > before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_certificate_changes_nothing_and_is_told(served: Served, workers: int) -> None:
    made = authority(served.folder, "made")
    certificate, key = served.folder / "cert.pem", served.folder / "key.pem"
    certificate.write_bytes(made[0].read_bytes())
    key.write_bytes(made[1].read_bytes())
    served.write(tls_certificate=str(certificate), tls_key=str(key), workers=workers)
    served.start()
    context = ssl.create_default_context(cafile=str(made[0]))
    context.check_hostname = False
    eventually(lambda: _serves(served, context))
    for broken in (made[0].read_bytes()[:300], authority(served.folder, "other")[0].read_bytes()):
        before = served.logged.count("all goes on as before")
        certificate.write_bytes(broken)  # half of it, and one of another key
        served.signal(signal.SIGHUP)
        eventually(partial(_told_again, served, before))
        assert served.post(OLD, "https", context) == 200
    with pytest.raises(OSError, match=r"."):
        served.post(OLD)
    assert served.post(OLD, "https", context) == 200


def test_a_process_without_a_supervisor_takes_a_new_policy_and_names_what_it_cannot(served: Served) -> None:
    served.write(workers=0)
    served.start()
    eventually(lambda: served.answers(OLD))
    assert served.post(OLD, path="/v1/logs", body=log_record("before")) == 200
    served.write(spool_retention_hours=1.0, host="0.0.0.0")
    policy = served.folder / "policy.yaml"
    policy.write_text("keys: {house.note: drop}\n")
    with (served.folder / "otel-telemetry.toml").open("a") as file:
        file.write(f'[redaction]\npolicy = "{policy}"\n[request_log]\nretention_days = 3\n')
    served.signal(signal.SIGHUP)
    eventually(lambda: "as the settings say now" in served.logged)
    (warning,) = [line for line in served.logged.splitlines() if "only a restart" in line]
    assert warning.endswith("gateway.host, gateway.spool_retention_hours, request_log.retention_days")
    assert served.post(OLD, path="/v1/logs", body=log_record("behind")) == 200
    with contextlib.closing(sqlite3.connect(served.folder / "otel-spool" / "spool.db")) as spool:
        before, behind = (body for (body,) in spool.execute("SELECT body FROM batch ORDER BY seq"))
    assert b"a note of before" in before
    assert b"behind" in behind
    assert b"a note of behind" not in behind


@pytest.mark.parametrize("workers", [0, 1])
def test_a_gateway_that_others_reach_does_not_lose_its_keys(served: Served, workers: int) -> None:
    served.write(workers=workers, host="0.0.0.0")
    served.start()
    eventually(lambda: served.answers(OLD))
    served.write(host="127.0.0.1", api_keys=[])
    served.signal(signal.SIGHUP)
    eventually(lambda: "all goes on as before" in served.logged)
    assert served.post("ingest:no-such-key-012345") == 401


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_that_waits_for_the_spool_says_so_and_obeys(
    served: Served, workers: int, number: signal.Signals
) -> None:
    folder = served.folder / "otel-spool"
    spool_file.make_folder(folder)
    lock = spool_file.lock_file(folder, spool_file.WRITE_LOCK_NAME)
    fcntl.flock(lock, fcntl.LOCK_EX)
    served.write(workers=workers)
    served.start()
    eventually(lambda: "waiting for the spool" in served.logged)
    began = time.monotonic()
    served.signal(number)
    assert served.process is not None
    assert served.process.wait(10) == 0
    assert time.monotonic() - began < 5
    os.close(lock)
