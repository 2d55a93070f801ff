"""A working week with nothing wrong in it, in the same sandbox: what must raise no alarm.

People mistype their passwords, up to four times in a row; somebody follows an old bookmark into
another organisation; a large job that was planned takes half of a budget at once, and a few small
ones follow; models are asked, sometimes the same thing again; silos send honest updates; a source
is read that nobody changed; checkpoints are sealed and verified; a private run releases its
figures, which are compared with those of earlier runs of its plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner.operations.alerts import Alert
from privacy_finetuner.operations.drills import queries, spending, states
from privacy_finetuner.operations.drills.sandbox import OFFICE, PASSWORD, SAMPLE, Sandbox
from privacy_finetuner.operations.drills.silos import honest_updates
from privacy_finetuner.operations.figures import RunFigures
from privacy_finetuner.operations.quarantine import SourceDigest
from privacy_finetuner.operations.run_context import sealed_fact
from privacy_finetuner.operations.run_rules import (
    FELL_STDS,
    RunFacts,
    fall_stds,
    outlier_strengths,
)
from privacy_runtime.budget_store import Signature, charge_of, parse_scope
from privacy_runtime.identity import LoginRefused, Role, WrongTenant

_PEOPLE: Final = 3
_TYPOS_MOST: Final = 4
_SMALL_JOBS: Final = 3
_QUESTIONS_MOST: Final = 24


def week(
    sandbox: Sandbox, run: Mapping[str, float], references: Sequence[Mapping[str, float]]
) -> list[Alert]:
    """Live through a week; returns the alerts that were raised, all of them false.

    Args:
        sandbox: where; its `strengths` say how near each rule came.
        run: what a private run on untouched records released; see `private_runs`.
        references: the same of earlier runs.
    """
    raised: dict[str, Alert] = {}
    for part in (_logins, _bookmark, _jobs, _questions):
        part(sandbox)
        raised |= {alert.id: alert for alert in sandbox.look()}
    facts = _facts(sandbox, run, references)
    sandbox.looks.append(lambda: facts)
    sandbox.strengths |= {
        "silo_outlier": max(outlier_strengths(facts.updates).values()),
        "scores_fell": max(0.0, (fall_stds(facts) or 0.0) / FELL_STDS),
    }
    raised |= {alert.id: alert for alert in sandbox.look()}
    return list(raised.values())


def _logins(sandbox: Sandbox) -> None:
    worst = 0
    for person in range(_PEOPLE):
        name = f"person-{person}"
        sandbox.user(name, Role.ANALYST)
        typos = int(float(sandbox.chance.uniforms(1)[0]) * (_TYPOS_MOST + 1))
        for number in range(typos):
            sandbox.clock.advance(8.0)
            try:
                sandbox.identity.logins.log_in(name, f"{PASSWORD}{number}", source=OFFICE)
            except LoginRefused:
                worst = max(worst, number + 1)
        sandbox.identity.logins.log_in(name, PASSWORD, source=OFFICE)
    sandbox.strengths["account_guessing"] = worst / 5


def _bookmark(sandbox: Sandbox) -> None:
    other = sandbox.identity.accounts.create_organisation("neighbours")
    neighbour = sandbox.user("neighbour", Role.VIEWER, tenant=other).principal
    lost = sandbox.user("lost", Role.TRAINER).principal
    visits = int(float(sandbox.chance.uniforms(1)[0]) * 2)
    for _ in range(visits):
        sandbox.clock.advance(30.0)
        try:
            sandbox.identity.accounts.set_role(lost, neighbour.subject, Role.VIEWER)
        except WrongTenant:
            sandbox.trespasses.not_found(lost.tenant, lost.subject, neighbour.subject)
    sandbox.strengths["foreign_objects"] = visits / 3


def _jobs(sandbox: Sandbox) -> None:
    scope, signature = parse_scope(spending.ACCOUNT), Signature("u_officer", "a year's budget")
    cap = Guarantee(epsilon=8.0, delta=1e-6)
    sandbox.ledger.open_account("open", scope, cap, signature=signature)
    sandbox.watch_account(scope)
    noises = [1.5 + float(sandbox.chance.uniforms(1)[0]), *[12.0] * _SMALL_JOBS]
    for number, noise in enumerate(noises):
        sandbox.clock.advance(300.0)
        charge = charge_of(Gaussian(noise))
        sandbox.ledger.reserve(f"job{number}", protection=(scope,), charge=charge, ttl_s=60)
        sandbox.ledger.commit(f"job{number}:done", f"job{number}")
    fact = sandbox.accounts(sandbox.tenant, sandbox.clock.now())[0]
    strength = min(fact.acts_last_hour / 10, fact.share_last_hour / 0.10)
    sandbox.strengths["budget_draining"] = strength


def _questions(sandbox: Sandbox) -> None:
    """Some questions, the first of them asked again a few times; only where models are at hand."""
    if sandbox.settings.generators is None:
        return
    who = sandbox.user("analyst", Role.ANALYST).principal
    chances = sandbox.chance.uniforms(2)
    again, count = int(float(chances[0]) * 6), 6 + int(float(chances[1]) * _QUESTIONS_MOST)
    prompts = queries.suspected(count, sandbox)
    for prompt in [prompts[0]] * again + prompts:
        queries.ask(sandbox, who, prompt)
    sandbox.strengths |= {
        "canary_probing": (again + 1) / 20,
        "membership_queries": count / 100,
    }


def _facts(
    sandbox: Sandbox, run: Mapping[str, float], references: Sequence[Mapping[str, float]]
) -> RunFacts:
    source = SAMPLE / "records.jsonl"
    sandbox.quarantine.register(sandbox.tenant, "notes", source)
    found: SourceDigest = sandbox.quarantine.register(sandbox.tenant, "notes", source)
    sets, _ = states.sealed_series(sandbox)
    return RunFacts(
        tenant=sandbox.tenant,
        run="run",
        now=sandbox.clock.now(),
        figures=RunFigures(
            epsilon_used=run["epsilon"] / 2,
            epsilon_total=run["epsilon"],
            accuracy=run["accuracy"],
            accuracy_std=run["accuracy_std"],
            gradient_norm=run["mean_gradient_norm"],
            gradient_norm_std=run["mean_gradient_norm_std"],
            clip_norm=run["clip_norm"],
        ),
        references=[(each["accuracy"], each["accuracy_std"]) for each in references],
        updates=honest_updates(sandbox.chance),
        source=found,
        sealed=(sealed_fact(sets, states.SERIES),),
        about={"run": "run"},
    )
