"""The router's demonstration: three hospitals, a few questions, and what everybody paid.

hospitals   three nodes with invented records, a small model, one ledger of patients each
questions   answered without records, from records without privacy, and privately
a label, agreement of the records, and a budget that buys nothing
patients    what each has paid: nobody but a demonstration may show it
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.core.query import Answer, Query
from federated_dp_llm.demo import hospitals
from federated_dp_llm.demo.baseline import Baseline
from federated_dp_llm.demo.sample import HOSPITALS, MODEL, Cohort, cohorts, patients
from federated_dp_llm.errors import BudgetTooSmall
from federated_dp_llm.federation.amounts import nano_cap
from federated_dp_llm.federation.port import Node
from federated_dp_llm.node.home import Promise
from federated_dp_llm.routing.answering import RecordAnswers
from federated_dp_llm.routing.policy import AnswerPolicy
from federated_dp_llm.routing.quotas import department_account, user_account
from federated_dp_llm.routing.registry import NodeRegistry
from federated_dp_llm.routing.vocabulary import TokenizerFile
from privacy_core.decoding.prices import rho_of
from privacy_runtime.allowances import AsyncAllowances, open_allowances
from privacy_runtime.files import write_atomic
from privacy_runtime.signing import SigningKey
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

RESULT: Final = "demo.json"
_USER: Final = "doctor"
_DEPARTMENT: Final = "clinic"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the demonstration does; the defaults take a minute on two cores.

    Attributes:
        epsilon: of each text.
        too_small: an epsilon that buys no text.
        user_epsilon: what the user may ask for, over everything.
        patient_epsilon: what every patient is promised, over everything.
        delta: at which epsilon is shown.
        questions: of `QUESTIONS`, so many.
        processes: each hospital is a process of its own; else all are in this one.
    """

    epsilon: float = 3.0
    too_small: float = 0.1
    user_epsilon: float = 10.0
    patient_epsilon: float = 6.0
    delta: float = 1e-6
    questions: int = 3
    processes: bool = True


QUESTIONS: Final = (
    "Which drug is given for {condition}?",
    "How is {condition} treated?",
    "Which side effect is seen in {condition}?",
    "Where are patients with {condition} treated?",
)


@dataclass(slots=True, kw_only=True)
class _Stage:
    """What every part of the demonstration asks."""

    settings: DemoSettings
    router: RecordAnswers
    baseline: Baseline
    say: Callable[[str], None]
    asked: int = 0

    async def ask(self, prompt: str, cohort: Cohort, **fields: Any) -> Answer:
        """One question in the user's name."""
        self.asked += 1
        values: dict[str, Any] = {"max_tokens": 64, "temperature": 0.7, "privacy_budget": 3.0}
        query = Query(
            request_id=f"question-{self.asked}",
            user_id=_USER,
            department=_DEPARTMENT,
            prompt=prompt,
            cohort=cohort.cohort,
            **(values | fields),
        )
        return await self.router.answer(query)


def run_demo(
    output: Path,
    *,
    console: Console,
    settings: DemoSettings | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
) -> dict[str, Any]:
    """Run the demonstration into a new folder and return what was seen, also written there.

    Ctrl-C ends the hospitals, and leaves the ledgers as they are.

    Args:
        output: for keys, ledgers and `demo.json`. A folder that was used before keeps its ledgers:
            patients and user go on paying from what they have left.
        console: where progress and tables go; `Console(stderr=True)` if standard output is JSON.
        settings: what to do.
        clock: the outside world's time; only tests replace it.
        entropy: the outside world's randomness; only tests replace it.

    Raises:
        FederatedError, NodeUnavailable: a hospital did not start, or has no room left.
        InvalidParameter, WriteFailed: the folder cannot be used.
    """
    settings = settings or DemoSettings()
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    began_s = clock.monotonic_s()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("three hospitals open their records")
        document = asyncio.run(
            _run(
                output,
                settings,
                clock,
                entropy,
                lambda text: progress.update(task, description=text),
            )
        )
    document["patients"] = [asdict(s) for s in hospitals.spent(output, delta=settings.delta)]
    document["seconds"] = round(clock.monotonic_s() - began_s, 1)
    write_atomic(output / RESULT, json.dumps(document, indent=1).encode())
    show(document, console)
    return document


async def _run(
    output: Path,
    settings: DemoSettings,
    clock: Clock,
    entropy: Entropy,
    say: Callable[[str], None],
) -> dict[str, Any]:
    key = _router_key(output, clock, entropy)
    async with AsyncExitStack() as stack:
        start = hospitals.as_processes if settings.processes else hospitals.in_process
        nodes = await stack.enter_async_context(
            start(
                output, key.public, Promise(epsilon=settings.patient_epsilon, delta=settings.delta)
            )
        )
        router = await _router(output, nodes, settings, key, clock, entropy)
        stack.push_async_callback(router.registry.aclose)
        stack.push_async_callback(router.aclose)
        stage = _Stage(settings=settings, router=router, baseline=Baseline(MODEL), say=say)
        return {
            "settings": asdict(settings),
            "hospitals": _described(nodes),
            "questions": await _questions(stage),
            "label": await _label(stage),
            "consensus": await _consensus(stage),
            "refused": await _refused(stage),
            "user_epsilon_left": await router.quotas.remaining(_USER),
        }


async def _router(
    output: Path,
    nodes: list[Node],
    settings: DemoSettings,
    key: SigningKey,
    clock: Clock,
    entropy: Entropy,
) -> RecordAnswers:
    allowances = open_allowances(output / "router.sqlite3", clock=clock)
    cap = nano_cap(rho_of(settings.user_epsilon, settings.delta))
    allowances.open_accounts({user_account(_USER): cap, department_account(_DEPARTMENT): cap})
    by_name = {node.node_id: node for node in nodes}
    registry = NodeRegistry(lambda spec: by_name[spec.node_id], clock=clock, entropy=entropy)
    for node in nodes:
        # The way to a node is `node` itself; the address is for the list of nodes only.
        await registry.register(NodeSpec(node_id=node.node_id, endpoint="http://127.0.0.1"))
    return RecordAnswers(
        registry,
        allowances=AsyncAllowances(allowances),
        vocabulary=TokenizerFile(MODEL / "tokenizer.json"),
        key=key,
        policy=AnswerPolicy(delta=settings.delta),
        clock=clock,
        entropy=entropy,
    )


async def _questions(stage: _Stage) -> list[dict[str, Any]]:
    """The same questions, asked in three ways."""
    rows = []
    for place in range(stage.settings.questions):
        cohort = cohorts()[place % len(cohorts())]
        question = QUESTIONS[place % len(QUESTIONS)].format(condition=cohort.cohort)
        stage.say(question)
        public = await stage.ask(question, cohort, context="none", temperature=0.0)
        private = await stage.ask(question, cohort, privacy_budget=stage.settings.epsilon)
        openly = await asyncio.to_thread(stage.baseline.answer, question, cohort.cohort)
        rows.append({
            "question": question,
            "local_drug": cohort.drug,
            "public": public.response.strip(),
            "without_privacy": openly.strip(),
            "private": private.response.strip(),
            **_cost(private),
        })  # fmt: skip
    return rows


async def _label(stage: _Stage) -> dict[str, Any]:
    """One word, chosen by the records themselves, with noise."""
    cohort = cohorts()[-1]
    question = f"In one word, which drug is given for {cohort.cohort}?"
    labels = (cohort.usual_drug, cohort.drug, *cohort.other_drugs)
    stage.say(question)
    answer = await stage.ask(question, cohort, labels=labels, privacy_budget=1.0)
    return {
        "question": question,
        "labels": labels,
        "local_drug": cohort.drug,
        "answer": answer.response.strip(),
        **_cost(answer),
    }


async def _consensus(stage: _Stage) -> dict[str, Any]:
    """A label, and how many records agree with it.

    Not a text: the small model cannot tell a right statement from a wrong one (`assets/README.md`),
    so what records say to a text would look like agreement and be none.
    """
    cohort = cohorts()[0]
    question = f"In one word, which drug is given for {cohort.cohort}?"
    stage.say(f"{question} Do the records agree?")
    answer = await stage.ask(
        question,
        cohort,
        labels=(cohort.usual_drug, cohort.drug, *cohort.other_drugs),
        require_consensus=True,
        privacy_budget=1.0,
    )
    return {
        "question": question,
        "local_drug": cohort.drug,
        "answer": answer.response.strip(),
        "reached": answer.consensus_reached,
        "share": answer.confidence_score,
        "interval": answer.confidence_interval,
        **_cost(answer),
    }


async def _refused(stage: _Stage) -> dict[str, Any]:
    """A budget that buys no text: refused, with the least that would."""
    cohort = cohorts()[0]
    question = QUESTIONS[1].format(condition=cohort.cohort)
    stage.say("a budget that buys nothing")
    try:
        await stage.ask(question, cohort, privacy_budget=stage.settings.too_small)
    except BudgetTooSmall as error:
        return {"question": question, "epsilon": error.epsilon, "least": error.least,
                "message": str(error)}  # fmt: skip
    return {"question": question, "epsilon": stage.settings.too_small, "least": None, "message": ""}


def _cost(answer: Answer) -> dict[str, Any]:
    return {
        "epsilon": answer.privacy_cost,
        "rho": answer.rho,
        "tokens": len(answer.tokens),
        "round_trips": answer.round_trips,
        "slots": answer.slots,
        "finish_reason": answer.finish_reason,
        "seconds": answer.processing_time,
    }


def _described(nodes: list[Node]) -> list[dict[str, Any]]:
    """What everybody knows of the hospitals."""
    counts = {name: 0 for name in HOSPITALS}
    for found in patients().values():
        for patient in found:
            counts[patient.hospital] += 1
    return [{"name": node.node_id, "patients": counts[node.node_id],
             "slots": hospitals.SLOTS} for node in nodes]  # fmt: skip


def _router_key(output: Path, clock: Clock, entropy: Entropy) -> SigningKey:
    path = output / "router.pem"
    if path.exists():
        return SigningKey.load(path)
    return SigningKey.create(path, entropy, now=clock.now())


def show(document: Mapping[str, Any], console: Console) -> None:
    """The tables for a person."""
    table = Table(title="Three hospitals, one question each", show_lines=True)
    for column in ("question", "public model", "records, no privacy", "records, private", "cost"):
        table.add_column(column)
    for row in document["questions"]:
        table.add_row(
            row["question"],
            row["public"],
            row["without_privacy"],
            row["private"],
            f"epsilon {row['epsilon']:.2f}\n{row['tokens']} tokens\n"
            f"{row['round_trips']} round trips",
        )
    console.print(table)
    label, agreed, refused = (document[name] for name in ("label", "consensus", "refused"))
    console.print(
        f"Label: {label['question']} [bold]{label['answer']}[/bold] "
        f"(epsilon {label['epsilon']:.2f}; here it is {label['local_drug']})"
    )
    low, high = agreed["interval"]
    console.print(
        f"Agreement: {agreed['question']} {agreed['answer']}, say {agreed['share']:.0%} of the "
        f"slots ({low:.0%} to {high:.0%}), consensus: {agreed['reached']} "
        f"(epsilon {agreed['epsilon']:.2f})"
    )
    console.print(f"Refused: {refused['message']}")
    paid = Table(title="What patients paid: only a demonstration may show this")
    for column in ("hospital", "epsilon", "patients"):
        paid.add_column(column)
    for hospital in document["patients"]:
        for epsilon, count in hospital["amounts"]:
            paid.add_row(hospital["hospital"], f"{epsilon:.3f}", str(count))
    console.print(paid)
    console.print(
        f"The user has epsilon {document['user_epsilon_left']:.2f} left. "
        f"{document['seconds']:.0f} s."
    )
