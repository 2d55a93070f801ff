"""At least once, in order, and never forgotten: whatever the receiver does and whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from privacy_runtime.database import Database
from privacy_runtime.notify import (
    BudgetStanding,
    EndpointLimit,
    Notifier,
    NotifyUnavailable,
    UnknownEndpoint,
    job_failed,
    security_alert,
    training_complete,
    verify,
)
from privacy_runtime.notify.outbox import LEASE_S
from privacy_runtime.notify.schedule import DELAYS_S, MOST_ATTEMPTS, delay_s
from privacy_runtime.notify.schema import OUTBOX, SCHEMA
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock, SeededEntropy

from .conftest import Receiver, deliver_all, opened  # noqa: TID252  fixtures of this folder

ALL = ("training_complete", "job_failed", "privacy_budget_warning", "security_alert")


def done(number: int, tenant: str = "o_1") -> object:
    return training_complete(
        tenant=tenant, job_id=f"job_{number}", epsilon=1.0, delta=1e-5, steps=96
    )


def test_a_message_arrives_signed_and_once(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    issued = notifier.add(tenant="o_1", url=receiver.url, events=ALL)
    first = notifier.announce(done(1))
    again = notifier.announce(done(1))

    assert deliver_all(notifier) == 1
    assert first == again
    ((headers, body),) = receiver.taken
    assert issued.secret is not None
    document = verify(headers, body, issued.secret, now=clock.now())
    assert document["type"] == "training_complete"
    assert document["data"]["privacy_spent"] == {"epsilon": 1.0, "delta": 1e-5}
    assert headers["webhook-id"] == first


def test_only_who_wants_it_gets_it(notifier: Notifier, receiver: Receiver) -> None:
    notifier.add(tenant="o_1", url=receiver.url, events=["job_failed"])
    notifier.add(tenant="o_2", url=receiver.url, events=ALL)
    notifier.announce(done(1))
    notifier.announce(job_failed(tenant="o_1", job_id="job_2", code="out_of_memory", attempts=3))

    assert deliver_all(notifier) == 1
    assert b"out_of_memory" in receiver.taken[0][1]


def test_a_failure_holds_up_what_is_behind_it_and_nothing_else(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    one = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    receiver.answers = [(500, {})]
    messages = [notifier.announce(done(number)) for number in range(3)]
    assert deliver_all(notifier) == 1
    other = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    later = notifier.announce(done(9))
    assert deliver_all(notifier) == 1  # the other endpoint's queue is its own

    clock.advance(DELAYS_S[0] * 1.3)
    assert deliver_all(notifier) == 4
    assert receiver.ids == [messages[0], later, *messages, later]
    states = [each.state for each in notifier.deliveries(one.id, tenant="o_1")]
    assert states == ["delivered"] * 4
    assert notifier.deliveries(other.id, tenant="o_1")[0].attempts == 1


def test_after_ten_attempts_it_is_given_up_and_can_be_sent_again(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    receiver.answers = [(500, {})] * MOST_ATTEMPTS
    notifier.announce(done(1))
    notifier.announce(done(2))
    for _ in range(MOST_ATTEMPTS):
        deliver_all(notifier)
        clock.advance(86_400 * 1.3)
    deliver_all(notifier)

    second, first = notifier.deliveries(endpoint.id, tenant="o_1")
    assert (first.state, first.attempts, first.status) == ("dead", MOST_ATTEMPTS, 500)
    assert second.state == "delivered"
    assert notifier.standing().dead == 1

    notifier.redeliver(first.id, tenant="o_1")
    assert deliver_all(notifier) == 1
    assert notifier.deliveries(endpoint.id, tenant="o_1")[1].state == "delivered"
    with pytest.raises(UnknownEndpoint):
        notifier.redeliver(first.id, tenant="o_1")


def test_a_receiver_that_is_gone_is_left_alone(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    receiver.answers = [(410, {})]
    notifier.announce(done(1))
    deliver_all(notifier)
    clock.advance(86_400)

    assert deliver_all(notifier) == 0
    found = notifier.endpoint(endpoint.id, tenant="o_1")
    assert (found.enabled, found.stopped_by) == (False, "gone")
    notifier.announce(done(2))
    notifier.change(endpoint.id, tenant="o_1", enabled=True)
    assert deliver_all(notifier) == 1  # what waited; what came meanwhile was not for it


def test_a_redirect_is_not_followed(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    receiver.answers = [(302, {"location": receiver.url + "/elsewhere"})]
    notifier.announce(done(1))

    assert deliver_all(notifier) == 1
    assert len(receiver.taken) == 1
    assert notifier.deliveries(endpoint.id, tenant="o_1")[0].reason == "redirect"


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [("7200", 7200), ("Thu, 01 Jan 2026 02:00:00 GMT", 7200), ("soon", 5), ("-3", 5)],
)
def test_a_receiver_may_ask_to_wait(
    notifier: Notifier, receiver: Receiver, clock: ManualClock, asked: str, wait_s: float
) -> None:
    notifier.add(tenant="o_1", url=receiver.url, events=ALL)
    receiver.answers = [(429, {"retry-after": asked})]
    notifier.announce(done(1))
    deliver_all(notifier)

    clock.advance(wait_s - 0.1)
    assert deliver_all(notifier) == 0
    clock.advance(wait_s * 0.2 + 1)
    assert deliver_all(notifier) == 1


def test_delays_grow_are_spread_and_end() -> None:
    entropy = SeededEntropy(7)
    for attempts, delay in enumerate(DELAYS_S, start=1):
        found = {delay_s(attempts, entropy) for _ in range(20)}
        assert len(found) == 20
        assert all(delay <= each <= 1.2 * delay for each in found if each is not None)

    assert delay_s(MOST_ATTEMPTS, entropy) is None
    assert delay_s(1, entropy, asked_s=1e9) == 86_400


def test_a_budget_warns_once_for_each_crossing(notifier: Notifier, receiver: Receiver) -> None:
    notifier.add(tenant="o_1", url=receiver.url, events=ALL)

    def look(spent: float, granted: float) -> int:
        standing = BudgetStanding(
            tenant="o_1", account="notes/2026", epsilon_spent=spent, epsilon_granted=granted
        )
        return notifier.watch_budgets([standing, standing], threshold=0.9)

    assert [look(0.5, 1), look(0.9, 1), look(0.95, 1)] == [0, 1, 0]
    assert [look(0.95, 2), look(1.9, 2), look(2, 2)] == [0, 1, 0]
    assert look(0, 0) == 0  # no epsilon at all is spent
    deliver_all(notifier)
    assert len(set(receiver.ids)) == 2


def test_an_account_without_epsilon_is_spent(notifier: Notifier) -> None:
    standing = BudgetStanding(tenant="o", account="a/b", epsilon_spent=0, epsilon_granted=0)

    assert notifier.watch_budgets([standing], threshold=0.9) == 1


def test_what_died_between_sending_and_marking_is_sent_again_with_its_id(
    where: str, receiver: Receiver, clock: ManualClock
) -> None:
    one, other = opened(where, clock), opened(where, clock)
    one.add(tenant="o_1", url=receiver.url, events=ALL)
    one.announce(done(1))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    one.deliverer._settle = dies  # type: ignore[method-assign]  # the process ends right here
    with pytest.raises(KeyboardInterrupt):
        one.deliverer.deliver_one()
    assert deliver_all(other) == 0  # the lease is still held
    clock.advance(LEASE_S + 1)
    assert deliver_all(other) == 1

    assert receiver.ids[0] == receiver.ids[1]
    assert len(receiver.taken) == 2
    one.close()
    other.close()


def test_who_lost_the_lease_marks_nothing(
    where: str, receiver: Receiver, clock: ManualClock
) -> None:
    slow, other = opened(where, clock), opened(where, clock)
    endpoint = slow.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    slow.announce(done(1))
    real = slow.deliverer._sent

    def overslept(claim: object) -> object:
        outcome = real(claim)  # type: ignore[arg-type]
        clock.advance(LEASE_S + 1)
        assert deliver_all(other) == 1
        return outcome

    slow.deliverer._sent = overslept  # type: ignore[method-assign,assignment]
    slow.deliverer.deliver_one()

    (found,) = slow.deliveries(endpoint.id, tenant="o_1")
    assert (found.state, found.attempts) == ("delivered", 1)
    slow.close()
    other.close()


def test_two_processes_send_nothing_twice_and_keep_the_order(
    where: str, receiver: Receiver, clock: ManualClock
) -> None:
    notifiers = [opened(where, clock) for _ in range(3)]
    notifiers[0].add(tenant="o_1", url=receiver.url, events=ALL)
    messages = [notifiers[0].announce(done(number)) for number in range(12)]

    def work(notifier: Notifier) -> None:
        while notifier.standing().waiting:
            notifier.deliverer.deliver_one()

    threads = [threading.Thread(target=work, args=(each,)) for each in notifiers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert receiver.ids == messages
    for each in notifiers:
        each.close()


def test_the_same_happening_announced_at_once_is_one_message(
    where: str, clock: ManualClock
) -> None:
    notifiers = [opened(where, clock) for _ in range(4)]
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda n=each: found.append(n.announce(done(1))))
        for each in notifiers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert len(set(found)) == 1
    for each in notifiers:
        each.close()


CHILD = """
import ipaddress, sys
from pathlib import Path
from privacy_runtime.notify import *
sys.path.insert(0, sys.argv[3])
from conftest import LOOPBACK, PlainSeal
notifier = Notifier.open(sys.argv[1], seal=PlainSeal(), options=NotifyOptions(posting=LOOPBACK))
if not notifier.endpoints(tenant="o_1"):
    notifier.add(tenant="o_1", url=sys.argv[2], events=["training_complete"])
notifier.start()
done = int((Path(sys.argv[1]).parent / "announced").read_text() or 0)
for number in range(done, 30):
    notifier.announce(
        training_complete(tenant="o_1", job_id=f"job_{number}", epsilon=1.0, delta=1e-5, steps=1)
    )
    (Path(sys.argv[1]).parent / "announced").write_text(str(number + 1))
while notifier.standing().waiting:
    pass
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_and_the_order_holds(
    tmp_path: Path, receiver: Receiver
) -> None:
    """`kill -9` eight times while thirty messages are announced and delivered."""
    where = str(tmp_path / "notify.db")
    (tmp_path / "announced").write_text("0")
    words = [sys.executable, "-c", CHILD, where, receiver.url, str(Path(__file__).parent)]
    for round_ in range(8):
        child = subprocess.Popen(words)
        time.sleep(0.6 + 0.07 * round_)
        child.send_signal(signal.SIGKILL)
        child.wait()
        # what it had leased is free again, as it would be two minutes later
        database = Database(where, OUTBOX)
        database.change(lambda c: c.exec_driver_sql("UPDATE notify_endpoints SET lease=NULL, lease_until_us=NULL"))  # fmt: skip  # noqa: E501
        database.close()
    subprocess.run(words, check=True, timeout=60)

    first = list(dict.fromkeys(receiver.ids))
    assert len(first) == 30
    order = [body for _, body in receiver.taken]
    jobs = [int(body.split(b':"job_')[1].split(b'"')[0]) for body in order]
    assert list(dict.fromkeys(jobs)) == list(range(30))
    assert jobs == sorted(jobs)


def test_the_threads_deliver_what_is_announced(
    where: str, receiver: Receiver, clock: ManualClock
) -> None:
    notifier = opened(where, clock)
    notifier.add(tenant="o_1", url=receiver.url, events=ALL)
    notifier.start()
    notifier.start()
    message = notifier.announce(done(1))
    for _ in range(500):
        if not notifier.standing().waiting:
            break
        time.sleep(0.01)
    notifier.stop()
    notifier.close()

    assert receiver.ids == [message]


def test_another_organisations_endpoint_is_not_there(
    notifier: Notifier, receiver: Receiver
) -> None:
    mine = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    for act in (
        lambda: notifier.endpoint(mine.id, tenant="o_2"),
        lambda: notifier.change(mine.id, tenant="o_2", enabled=False),
        lambda: notifier.remove(mine.id, tenant="o_2"),
        lambda: notifier.rotate(mine.id, tenant="o_2"),
        lambda: notifier.deliveries(mine.id, tenant="o_2"),
        lambda: notifier.test(mine.id, tenant="o_2"),
        lambda: notifier.endpoint(mine.id, tenant="*"),
    ):
        with pytest.raises(UnknownEndpoint):
            act()

    assert notifier.endpoint(mine.id, tenant="o_1").enabled


def test_an_organisation_has_so_many_endpoints(notifier: Notifier, receiver: Receiver) -> None:
    for _ in range(20):
        notifier.add(tenant="o_1", url=receiver.url, events=ALL)

    with pytest.raises(EndpointLimit, match="at most 20"):
        notifier.add(tenant="o_1", url=receiver.url, events=ALL)


def test_an_endpoint_that_is_removed_takes_its_queue_along(
    notifier: Notifier, receiver: Receiver
) -> None:
    endpoint = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    notifier.announce(done(1))
    notifier.remove(endpoint.id, tenant="o_1")

    assert notifier.standing().waiting == {}
    assert deliver_all(notifier) == 0


def test_both_secrets_sign_while_one_is_replaced(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    old = notifier.add(tenant="o_1", url=receiver.url, events=ALL)
    new = notifier.rotate(old.endpoint.id, tenant="o_1", keep_s=60)
    assert old.secret is not None
    assert new.secret is not None
    notifier.test(old.endpoint.id, tenant="o_1")
    deliver_all(notifier)
    for secret in (old.secret, new.secret):
        assert verify(*receiver.taken[0], secret, now=clock.now())["type"] == "test"

    clock.advance(61)
    notifier.test(old.endpoint.id, tenant="o_1")
    deliver_all(notifier)
    assert len(receiver.taken[1][0]["webhook-signature"].split()) == 1
    assert verify(*receiver.taken[1], new.secret, now=clock.now())


def test_nothing_is_kept_plain(tmp_path: Path, clock: ManualClock, receiver: Receiver) -> None:
    notifier = opened(str(tmp_path / "notify.db"), clock)
    issued = notifier.add(tenant="o_1", url=receiver.url, events=ALL)
    notifier.close()

    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert issued.secret is not None
    assert b"s3cret-path" not in data
    assert issued.secret.reveal().encode() not in data
    assert oct(os.stat(tmp_path / "notify.db").st_mode)[-3:] == "600"
    assert "s3cret-path" not in repr(issued)
    assert issued.secret.reveal() not in repr(issued)


def test_the_operators_endpoints_are_what_the_configuration_says(
    where: str, clock: ManualClock, receiver: Receiver
) -> None:
    options = {
        "operator": (("slack", Secret(receiver.url)),),
        "operator_events": ("security_alert",),
    }
    for _ in range(2):
        notifier = opened(where, clock, **options)
        notifier.close()
    notifier = opened(where, clock, **options)
    notifier.announce(
        security_alert(tenant="o_7", alert_id="a_1", threat_type="tampering", severity="high")
    )
    notifier.announce(done(1))
    assert deliver_all(notifier) == 1
    assert b"tampering" in receiver.taken[0][1]
    notifier.close()

    without = opened(where, clock)
    without.announce(
        security_alert(tenant="o_7", alert_id="a_2", threat_type="tampering", severity="high")
    )
    assert deliver_all(without) == 0
    without.close()


def test_old_deliveries_are_pruned_and_waiting_ones_are_not(
    notifier: Notifier, receiver: Receiver, clock: ManualClock
) -> None:
    endpoint = notifier.add(tenant="o_1", url=receiver.url, events=ALL).endpoint
    notifier.announce(done(1))
    deliver_all(notifier)
    receiver.answers = [(500, {})]
    notifier.announce(done(2))
    deliver_all(notifier)
    clock.advance(31 * 86_400)

    assert notifier.deliverer.prune() == 1
    assert [d.state for d in notifier.deliveries(endpoint.id, tenant="o_1")] == ["waiting"]


def test_a_follower_keeps_its_place_with_what_it_announced(notifier: Notifier) -> None:
    assert notifier.place("jobs", first=7) == 7
    notifier.announce_all([done(1)], follower="jobs", place=9)
    assert notifier.place("jobs", first=0) == 9

    notifier.announce_all([], follower="jobs", place=8)  # somebody was faster
    assert notifier.place("jobs", first=0) == 9


def test_a_database_that_is_away_or_newer_is_said(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(NotifyUnavailable, match="nothing was changed"):
        opened(str(tmp_path / "gone" / "notify.db"), clock)
    with pytest.raises(NotifyUnavailable) as caught:
        opened("postgresql://u:pa55@127.0.0.1:1/x", clock)
    assert "pa55" not in str(caught.value)

    database = Database(tmp_path / "notify.db", OUTBOX)
    database.change(lambda c: c.execute(SCHEMA.update().values(version=99)))
    database.close()
    with pytest.raises(NotifyUnavailable, match="schema version 99"):
        opened(str(tmp_path / "notify.db"), clock)
