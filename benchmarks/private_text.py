"""How good private text is, and how many round trips it takes.

    OMP_NUM_THREADS=1 python benchmarks/private_text.py --json [--items 96] [--model FOLDER]

On the invented records of the demo. Held-back answers are what is true of patients of the same
hospitals who are in no federation. Everything is teacher-forced, so that figures of quality have no
sampling error; every law is on the same candidates. `protocol` is the probability that a whole
answer is the one that most of these patients would give.

`recovered` is the share of the way from the public model to the best one without privacy (the mean
of all slots' probabilities, or of their logits, whichever is better), in perplexity and in nats.
The baseline `noisy probabilities` adds Gaussian noise of the same price to the mean of the slots'
probabilities and takes the largest (Tang et al. 2024, without subsampling).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.core.query import Query
from federated_dp_llm.demo.sample import ASSETS, HeldBack, framed, held_back, patients
from federated_dp_llm.node.agent import NodeAgent
from federated_dp_llm.node.hf import HfModel
from federated_dp_llm.node.home import Promise, open_agent
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.routing.answering import RecordAnswers
from federated_dp_llm.routing.policy import AnswerPolicy
from federated_dp_llm.routing.quotas import department_account, user_account
from federated_dp_llm.routing.registry import NodeRegistry
from federated_dp_llm.routing.vocabulary import TokenizerFile
from privacy_core.decoding.candidates import candidate_set
from privacy_core.decoding.differences import clipped_sum
from privacy_core.decoding.prices import rho_of
from privacy_core.decoding.sampling import scores
from privacy_core.decoding.terms import Adjacency, DecodingTerms
from privacy_runtime.allowances import AsyncAllowances, open_allowances
from privacy_runtime.keystream import KeyStream
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemClock, SystemEntropy

# B slots, T tokens of the answer, V vocabulary, K candidates.
Floats = npt.NDArray[np.float64]
DELTA: Final = 1e-6
TOKENS: Final = 64
CLIP_MOST: Final = 4.0
"""In nats; a larger clip would only buy what a smaller epsilon buys."""
SETTINGS: Final[tuple[tuple[int, Adjacency], ...]] = (
    (32, "null"), (128, "null"), (32, "replace"), (64, "replace"), (128, "replace"),
)  # fmt: skip
NODES: Final = 4
EPSILONS: Final = (1.0, 3.0, 10.0)
_NOISE_DRAWS: Final = 256
_FLOOR: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Scored:
    """One answer's logits, without records and with each slot's."""

    item: HeldBack
    is_protocol: bool
    answer: npt.NDArray[np.int64]  # [T]
    public: npt.NDArray[np.float32]  # [T, V]
    private: npt.NDArray[np.float32]  # [B, T, V]


class Reader:
    """The model, teacher-forced."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def scored(self, item: HeldBack, text: str, records: Sequence[str]) -> Scored:
        """One answer after its question, without a record and with each of them."""
        ending = self.tokenizer.eos_token
        answer = self.tokenizer(f" {text}{ending}", add_special_tokens=False)["input_ids"]
        prompts = [framed(item.question), *(framed(item.question, r) for r in records)]
        logits = self._logits(self.tokenizer(prompts)["input_ids"], answer)
        return Scored(item, text == item.protocol, np.array(answer), logits[0], logits[1:])

    def _logits(self, prompts: list[list[int]], answer: list[int]) -> npt.NDArray[np.float32]:
        # Padding is on the right of a causal model: no token sees it.
        rows = [torch.tensor(prompt + answer[:-1]) for prompt in prompts]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        places = torch.tensor([[len(p) - 1 + t for t in range(len(answer))] for p in prompts])
        with torch.inference_mode():
            hidden = self.model.model(input_ids=tokens).last_hidden_state
            picked = hidden[torch.arange(len(rows))[:, None], places]
            found: npt.NDArray[np.float32] = self.model.lm_head(picked).float().numpy()
        return found


def read(folder: Path, items: int, slots: int) -> Iterator[Scored]:
    """All answers that are measured: the held-back ones, and each question's protocol once."""
    reader = Reader(folder)
    records = {cohort: [p.text for p in found] for cohort, found in patients().items()}
    chosen = held_back()[:: max(1, len(held_back()) // items)][:items]
    asked: set[str] = set()
    for item in chosen:
        rows = records[item.cohort][:slots]
        yield reader.scored(item, item.answer, rows)
        if item.question not in asked and item.answer != item.protocol:
            asked.add(item.question)
            yield reader.scored(item, item.protocol, rows)


def terms_of(slots: int, adjacency: Adjacency, epsilon: float) -> DecodingTerms:
    """The largest clip that `TOKENS` tokens at this epsilon pay for."""
    reach = math.sqrt(2 * rho_of(epsilon, DELTA) / TOKENS)
    clip = min(CLIP_MOST, reach * slots / (2 if adjacency == "replace" else 1))
    return DecodingTerms(
        slots=slots, clip=clip, temperature=1.0, max_tokens=TOKENS, adjacency=adjacency
    )


def laws(scored: Scored, terms: DecodingTerms, stream: KeyStream) -> dict[str, Floats]:
    """The probability of each token of the answer, [T], under each way of making it."""
    found: dict[str, list[float]] = {}
    for t, token in enumerate(scored.answer):
        chosen = candidate_set(scored.public[t], terms)
        place = np.flatnonzero(chosen == token)
        public, private = scored.public[t, chosen], scored.private[: terms.slots, t, chosen]
        sums = clipped_sum(private, public, terms.clip)
        shares = _softmax(private.astype(np.float64))
        # An empty slot says what the public model says.
        empty = terms.slots - len(private)
        mean = (shares.sum(axis=0) + empty * _softmax(public.astype(np.float64))) / terms.slots
        logits = (private.sum(axis=0, dtype=np.float64) + empty * public) / terms.slots
        for name, law in (
            ("public only", _softmax(public.astype(np.float64))),
            ("private", _softmax(scores(public, sums, terms))),
            ("no privacy, mean of probabilities", mean),
            ("no privacy, mean of logits", _softmax(logits)),
            ("noisy probabilities", _noisy_argmax(mean, terms, stream)),
        ):
            found.setdefault(name, []).append(float(law[place[0]]) if len(place) else 0.0)
    return {name: np.array(values) for name, values in found.items()}


def quality(answers: Sequence[Scored], terms: DecodingTerms) -> dict[str, Any]:
    """Perplexity and protocol accuracy under every law, and what of the gap is recovered."""
    stream = KeyStream.fresh(SeededEntropy(4))
    losses: dict[str, list[Floats]] = {}
    right: dict[str, dict[str, float]] = {}
    for scored in answers:
        for name, shares in laws(scored, terms, stream).items():
            if scored.is_protocol:
                right.setdefault(name, {})[scored.item.question] = float(np.prod(shares))
            if not scored.is_protocol or scored.item.answer == scored.item.protocol:
                losses.setdefault(name, []).append(-np.log(np.maximum(shares, _FLOOR)))
    nats = {name: float(np.concatenate(values).mean()) for name, values in losses.items()}
    best = min((name for name in nats if name.startswith("no privacy")), key=nats.__getitem__)
    gap = nats["public only"] - nats[best]
    return {
        "perplexity": {name: round(math.exp(value), 3) for name, value in nats.items()},
        "protocol": {
            name: round(float(np.mean(list(values.values()))), 3) for name, values in right.items()
        },
        "recovered": {
            "perplexity": round(
                (math.exp(nats["public only"]) - math.exp(nats["private"]))
                / (math.exp(nats["public only"]) - math.exp(nats[best])),
                3,
            ),
            "nats": round((nats["public only"] - nats["private"]) / gap, 3),
        },
        "tokens": int(sum(len(values) for values in losses["private"])),
    }


async def round_trips(model: Path, home: Path) -> dict[str, Any]:
    """Tokens per round trip of real answers, over `NODES` nodes of 8 slots in this process."""
    backend = HfModel.load(model)
    clock, entropy = SystemClock(), SystemEntropy()
    key = SigningKey.create(home / "router.pem", entropy, now=clock.now())
    store = open_allowances(home / "router.sqlite3")
    store.open_accounts({user_account("u"): 1 << 60, department_account("d"): 1 << 60})
    everybody = [p for members in patients().values() for p in members]
    agents: dict[str, NodeAgent] = {}
    for place in range(NODES):
        mine = [
            Record(patient=p.patient, text=p.text, cohort=p.cohort) for p in everybody[place::NODES]
        ]
        agents[f"n{place}"] = open_agent(
            home / f"n{place}",
            NodePolicy(node_id=f"n{place}", slots=8, cohorts=tuple(patients()), selection="listed"),
            backend,
            Retrieval(Records.of(mine)),
            trusted=TrustedKeys([key.public]),
            promise=Promise(epsilon=1000.0),
        )
    registry = NodeRegistry(lambda spec: agents[spec.node_id])
    for name in agents:
        await registry.register(NodeSpec(node_id=name, endpoint="http://127.0.0.1"))
    router = RecordAnswers(
        registry,
        allowances=AsyncAllowances(store),
        vocabulary=TokenizerFile(model / "tokenizer.json"),
        key=key,
        policy=AnswerPolicy(adjacency="null", delta=DELTA),
    )
    questions = {item.question: item for item in held_back()}
    tokens = rounds = 0
    for number, item in enumerate(questions.values()):
        answer = await router.answer(
            Query(
                request_id=f"q{number}", user_id="u", department="d", prompt=item.question,
                max_tokens=TOKENS, temperature=1.0, privacy_budget=3.0, cohort=item.cohort,
            )
        )  # fmt: skip
        tokens, rounds = tokens + len(answer.tokens), rounds + answer.round_trips
    await router.aclose()
    await registry.aclose()
    store.close()
    return {
        "nodes": NODES,
        "slots": 8 * NODES,
        "answers": len(questions),
        "tokens": tokens,
        "round_trips": rounds,
        "tokens_per_round_trip": round(tokens / rounds, 2),
    }


def _noisy_argmax(mean: Floats, terms: DecodingTerms, stream: KeyStream) -> Floats:
    """How often each candidate is the largest: L2 sensitivity sqrt(2) / s whichever neighbours."""
    sigma = math.sqrt(2) / terms.slots / math.sqrt(2 * terms.rho_per_token)
    uniforms = stream.uniforms(2 * _NOISE_DRAWS * len(mean)).reshape(2, _NOISE_DRAWS, len(mean))
    normal = np.sqrt(-2 * np.log1p(-uniforms[0])) * np.cos(2 * np.pi * uniforms[1])
    largest = (mean + sigma * normal).argmax(axis=1)
    return np.bincount(largest, minlength=len(mean)) / _NOISE_DRAWS


def _softmax(scores_K: Floats) -> Floats:
    weights = np.exp(scores_K - scores_K.max(axis=-1, keepdims=True))
    shares: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--items", type=int, default=96, help="held-back answers")
    parser.add_argument("--model", type=Path, default=ASSETS / "model")
    options = parser.parse_args()
    answers = list(read(options.model, options.items, max(s for s, _ in SETTINGS)))
    rows = []
    for slots, adjacency in SETTINGS:
        for epsilon in EPSILONS:
            terms = terms_of(slots, adjacency, epsilon)
            row = {"slots": slots, "adjacency": adjacency, "epsilon": epsilon}
            rows.append(row | {"clip": round(terms.clip, 3)} | quality(answers, terms))
            if not options.json:
                print(_line(rows[-1]))
    with tempfile.TemporaryDirectory() as home:
        trips = asyncio.run(round_trips(options.model, Path(home)))
    if not options.json:
        print(trips)
    result = {
        "round_trips": trips,
        "delta": DELTA,
        "tokens_paid": TOKENS,
        "answers": len(answers),
        "quality": rows,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    if options.json:
        print(json.dumps(result, indent=2))


def _line(row: dict[str, Any]) -> str:
    shown = "  ".join(f"{name} {value:.2f}" for name, value in row["perplexity"].items())
    return (
        f"s={row['slots']:<4d}{row['adjacency']:8s} eps={row['epsilon']:<5g} C={row['clip']:<6g}"
        f"recovered {row['recovered']['perplexity']:.0%} ({row['recovered']['nats']:.0%} of nats)\n"
        f"    perplexity: {shown}\n    protocol: {row['protocol']}"
    )


if __name__ == "__main__":
    main()
