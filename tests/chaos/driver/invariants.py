"""What must hold after every campaign: the witness, the run records and the ledger agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driver.site import ACCOUNT, PASSWORD, RECORD, Site
from privacy_finetuner.jobs import Job, JobState
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.training import run_record
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.append_log import LogEntry, read_log
from privacy_runtime.budget_store import BudgetStore, Reservation, Status, charge_of

_ARTEFACTS: Final = ("report.html", "certificate.json", "run.jsonl", "statement.json")
_SECRETS: Final = (PASSWORD, RECORD, RECORD.split()[1])


def violations(site: Site) -> list[str]:
    """Everything that does not hold; empty: all of it does."""
    jobs = site.jobs
    found = [*_of_the_queue(site, jobs), *_of_the_ledger(site, jobs), *_of_the_logs(site)]
    for job in jobs:
        found += [
            f"{job.name} ({job.id}): {each}"
            for check in (_of_the_end, _of_the_story, _of_the_steps, _of_the_loads, _of_the_folder)
            for each in check(site, job)
        ]
    return found


def _of_the_queue(site: Site, jobs: list[Job]) -> Iterator[str]:
    """Each submission is one job."""
    if len(jobs) != site.submitted:
        yield f"{site.submitted} jobs were submitted, {len(jobs)} are there"
    if len({job.name for job in jobs}) != len(jobs):
        yield "a submission became two jobs"
    site.verify_journal()


def _of_the_end(site: Site, job: Job) -> Iterator[str]:
    """No fault that passes may fail a job."""
    if job.state is not JobState.SUCCEEDED:
        yield f"ended as {job.state} [{job.error_code}] {job.error}"
    elif job.step != job.steps or not job.steps:
        yield f"ended at step {job.step} of {job.steps}"
    elif job.epsilon != job.epsilon_planned or job.epsilon <= 0:
        yield f"counts epsilon {job.epsilon}, planned was {job.epsilon_planned}"


def _of_the_story(site: Site, job: Job) -> Iterator[str]:
    """Numbered from 1 without a gap, one end, nothing told twice."""
    story = site.story(job)
    if [event.seq for event in story] != list(range(1, len(story) + 1)):
        yield "its events have a gap"
    states = [event.body["state"] for event in story if event.kind is EventKind.STATE]
    if sum(JobState(state).is_final for state in states) != 1 or states[-1] != job.state:
        yield f"its states are {states}"
    epochs = [event.body["epoch"] for event in story if event.kind is EventKind.EPOCH]
    if epochs != sorted(set(epochs)):
        yield f"its epochs are {epochs}"


def _of_the_steps(site: Site, job: Job) -> Iterator[str]:
    """Every step that ran was charged before; none ran twice; never two children at once."""
    told = Counter(line["what"] for line in site.witnessed(job))
    if told["two at once"]:
        yield "two children were at work at once"
    state = site.record(job)
    if state is None or state.plan is None or not state.is_finished:
        yield "has no whole run record"
        return
    lost = 0
    for entry, reached, settled in _course(site, job):
        if entry.type == "reserved" and entry.body["until"] <= reached:
            yield f"entry {entry.index} charges step {entry.body['until']} again"
        if entry.type == "resumed":
            charged, since = entry.body["charged"], entry.body["from_step"]
            lost += charged - since
            if charged != reached or since > settled:
                yield f"entry {entry.index} resumes at {since}, {reached} steps were charged"
    if not told["step"] <= state.charged_steps <= told["step"] + lost:
        yield f"{told['step']} steps ran, {lost} were lost, {state.charged_steps} are charged"


def _course(site: Site, job: Job) -> Iterator[tuple[LogEntry, int, int]]:
    """Entries of a run record, each with the steps that were charged and settled before it."""
    reached = settled = 0
    for entry in read_log(site.folder(job) / run_record.FILE_NAME):
        yield entry, reached, settled
        if entry.type == "reserved":
            reached = entry.body["until"]
        elif entry.type == "settled":
            reached = settled = entry.body["steps"]


def _of_the_loads(site: Site, job: Job) -> Iterator[str]:
    """No checkpoint that was damaged was ever resumed from."""
    entries = read_log(site.folder(job) / run_record.FILE_NAME)
    for of, name, since in site.damaged:
        later = [entry for entry in entries if of == job.id and entry.index >= since]
        for entry in later:
            if entry.type == "resumed" and entry.body.get("checkpoint") == name:
                yield f"entry {entry.index} resumed from {name}, which is damaged"


def _of_the_folder(site: Site, job: Job) -> Iterator[str]:
    """All that is handed over is there, and nothing that only a resumed run needs."""
    names = {each.name for each in site.artefacts(job)}
    if missing := set(_ARTEFACTS) - names:
        yield f"lacks {sorted(missing)}"
    if not any(name.endswith(".safetensors") for name in names):
        yield "has no model"
    files = [path.name for path in site.folder(job).iterdir()]
    left = [name for name in files if name.endswith((".resume", ".noise", ".partial", ".tmp"))]
    if left:
        yield f"leaves {left}"


def _of_the_ledger(site: Site, jobs: list[Job]) -> Iterator[str]:
    """Spent is the price of what was charged: exactly the plans, each once; nothing is open."""
    with BudgetStore.open(site.ledger) as store:
        store.verify()
        if still := [each.key for each in store.open_reservations()]:
            yield f"reservations are open: {still}"
        keys = [fact.entry.key for fact in store.history() if _is_reservation(fact.entry)]
        held = {key: store.reservation(key) for key in keys}
        account = store.balance(ACCOUNT)
    kept = {key: each for key, each in held.items() if each.status is not Status.REFUNDED}
    expected, total = set(), None
    for job in jobs:
        state = site.record(job)
        if job.spec.account is None or state is None or state.plan is None:
            continue
        of = [each for key, each in kept.items() if _belongs(key, state.job_id)]
        expected |= {each.key for each in of}
        if len(of) != 1:
            yield f"{job.id} has the reservations {[each.key for each in of]}"
            continue
        yield from _of_the_price(job, DPTrainingPlan.from_json(dict(state.plan)), of[0])
        spent = of[0].settled.in_currency(account.currency) if of[0].settled else ()
        total = spent if total is None else tuple(a + b for a, b in zip(total, spent, strict=True))
    if set(kept) != expected:
        yield f"the ledger holds what no job has: {sorted(set(kept) - expected)}"
    if total is not None and total != account.committed:
        yield "the account's balance is not the sum of what was committed"


def _of_the_price(job: Job, plan: DPTrainingPlan, held: Reservation) -> Iterator[str]:
    """What was committed is the price of the plan, computed again."""
    if held.status not in (Status.COMMITTED, Status.EXPIRED):
        yield f"{job.id}: its reservation is {held.status}"
    price = charge_of(plan.event(), delta=plan.delta, relation=plan.relation, unit=plan.unit)
    if held.charge != price:
        yield f"{job.id}: what was reserved is not the price of its plan"
    if job.state is JobState.SUCCEEDED and held.settled != held.charge:
        yield f"{job.id}: what was committed is not the price of its plan"


def _of_the_logs(site: Site) -> Iterator[str]:
    """No planted secret in anything that was written or told but the records themselves."""
    planted = [text.encode() for text in _SECRETS]
    for job in site.jobs:
        told = repr((job, site.story(job)))
        if any(text in told for text in _SECRETS):
            yield f"{job.id} tells a planted secret"
    apart = {site.places.dataset, str(site.root / "places.json")}
    for folder in (site.root, Path(site.places.runs)):
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            if str(path) in apart or path.suffix in (".safetensors", ".pt"):
                continue
            content = path.read_bytes()
            for number, text in enumerate(planted):
                if text in content:
                    yield f"{path.relative_to(site.root)} holds planted secret {number}"


def _is_reservation(entry: object) -> bool:
    return type(entry).__name__ == "Reserved"


def _belongs(key: str, run: str) -> bool:
    return key == f"training:{run}" or key.startswith(f"training:{run}:")
