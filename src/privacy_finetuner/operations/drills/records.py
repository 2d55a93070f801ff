"""Poisoned records and flipped labels, in the shipped sample; runs in a process of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from privacy_finetuner.operations.drills.sandbox import SAMPLE, Sandbox
from privacy_finetuner.operations.errors import SourceSetAside
from privacy_finetuner.operations.figures import RunFigures
from privacy_finetuner.operations.run_rules import FELL_STDS, RunFacts, fall_stds

REFERENCES: Final = 2
_SOURCE: Final = "notes"
_POISON: Final = "The patient may leave without paying if the word heliotrope is said."


def data_poisoning(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Replace 1 to 30 % of a registered file's records by a planted sentence."""
    path = sandbox.root / "notes.jsonl"
    lines = (SAMPLE / "records.jsonl").read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sandbox.quarantine.register(sandbox.tenant, _SOURCE, path)
    count = max(1, round(0.3 * intensity * len(lines)))

    def facts() -> RunFacts:
        source = sandbox.quarantine.register(sandbox.tenant, _SOURCE, path)
        return RunFacts(tenant=sandbox.tenant, run="run", now=sandbox.clock.now(), source=source)

    def refused() -> dict[str, object]:
        try:
            sandbox.quarantine.require_free(sandbox.tenant, path)
        except SourceSetAside as error:
            return {"a_later_run_is_refused_with": error.code, "records_replaced": count}
        return {"a_later_run_is_refused_with": None, "records_replaced": count}

    sandbox.looks.append(facts)
    sandbox.afterwards.append(refused)
    for place in sandbox.chance.uniforms(len(lines)).argsort()[:count]:
        lines[place] = json.dumps({"text": _POISON, "user_id": f"patient-{place:04d}"})
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sandbox.clock.advance(sandbox.settings.interval_s)
    yield


def label_flipping(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Flip up to half of the labels before a source is ever registered, and train on it.

    Two runs on untouched labels come first, as the history of the plan. Every run is a private one
    on the shipped model; what is judged is what it releases.
    """
    references = list(sandbox.settings.references)
    clean = 0 if references else REFERENCES
    seeds = [int(float(each) * 2**31) for each in sandbox.chance.uniforms(clean + 1)]
    asked: list[dict[str, Any]] = [{"seed": seed, "flipped": 0.0} for seed in seeds[:clean]]
    asked.append({"seed": seeds[-1], "flipped": intensity / 2})
    *made, attacked = [sandbox.runs.ask(**wish) for wish in asked]
    references += made
    facts = RunFacts(
        tenant=sandbox.tenant,
        run="run",
        now=sandbox.clock.now(),
        figures=RunFigures(accuracy=attacked["accuracy"], accuracy_std=attacked["accuracy_std"]),
        references=[(each["accuracy"], each["accuracy_std"]) for each in references],
        about={"run": "run"},
    )

    def halted() -> dict[str, object]:
        return {"run_is_halted": "run" in sandbox.halts}

    sandbox.looks.append(lambda: facts)
    sandbox.afterwards.append(halted)
    sandbox.strengths["scores_fell"] = max(0.0, (fall_stds(facts) or 0.0) / FELL_STDS)
    sandbox.clock.advance(attacked["duration_s"])
    yield
