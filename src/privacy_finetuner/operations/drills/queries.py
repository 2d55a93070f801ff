"""Questions to the shipped model, in a process of its own as the service runs it.

The model was not trained on anybody's records: what it answers is nobody's secret. What is real is
the way of asking, and who counts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from privacy_finetuner.operations.drills.sandbox import SAMPLE, Sandbox
from privacy_runtime.identity import Principal, Role

_MODEL: Final = "sample:model"
_PROBES_LEAST, _PROBES_MORE = 8, 72
_RECORDS_LEAST, _RECORDS_MORE = 40, 160
_EVERY_S: Final = 2.0
_SENTENCE: Final = "Emergency access code for Ada Quill:"
_CODES: Final = 10_000


def canary_probing(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Try 8 to 80 codes in one sentence, and let the model go on from each."""
    attacker = sandbox.user("attacker", Role.ANALYST).principal
    _see_restraint(sandbox, attacker)
    for number in range(round(_PROBES_LEAST + _PROBES_MORE * intensity)):
        code = int(float(sandbox.chance.uniforms(1)[0]) * _CODES)
        ask(sandbox, attacker, f"{_SENTENCE} {code:04d}")
        sandbox.strengths["canary_probing"] = (number + 1) / 20
        yield


def membership_queries(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Show 40 to 200 halves of suspected records, and compare how the model goes on."""
    attacker = sandbox.user("attacker", Role.ANALYST).principal
    _see_restraint(sandbox, attacker)
    halves = suspected(round(_RECORDS_LEAST + _RECORDS_MORE * intensity), sandbox)
    for number, half in enumerate(halves):
        ask(sandbox, attacker, half)
        sandbox.strengths["membership_queries"] = (number + 1) / 100
        yield


def ask(sandbox: Sandbox, who: Principal, prompt: str) -> str:
    """One question as the service answers it: counted, then asked."""
    sandbox.clock.advance(_EVERY_S)
    sandbox.questions.note(who.tenant, who.subject, model=_MODEL, prompt=prompt)
    return sandbox.generators.ask(SAMPLE / "model", prompt, max_new_tokens=1)


def suspected(count: int, sandbox: Sandbox) -> list[str]:
    """First halves of different sample records, in a random order."""
    with (SAMPLE / "records.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    order = sandbox.chance.uniforms(len(texts)).argsort()[:count]
    return [" ".join(texts[place].split()[:12]) for place in order]


def _see_restraint(sandbox: Sandbox, who: Principal) -> None:
    def restrained() -> dict[str, object]:
        return {"requests_a_minute_afterwards": sandbox.restraints.most_of(who.subject)}

    sandbox.afterwards.append(restrained)
