"""A node over an inference server: whatever the server says moves one slot by its clip at most."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.node.inference import Inference
from tests.federated_dp_llm.node.toy import Hospital, numbers, opened

from federated_dp_llm.federation.messages import PublicAsk, Step
from federated_dp_llm.node.dialects import DIALECTS, TOP, read
from federated_dp_llm.node.prompts import PromptForm
from federated_dp_llm.node.public import public_draft
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.served import ServedModel
from federated_dp_llm.node.weights import weights_digest
from privacy_core.decoding.differences import clipped_sum
from privacy_core.decoding.terms import GRID
from privacy_core.errors import InvalidParameter

PROMPT, CLIP = "cough", 2.0


@pytest.fixture(scope="module")
def served(llama_folder: Path) -> Iterator[tuple[Inference, dict[str, ServedModel]]]:
    """A server, and a node's backend for each dialect of it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    inference = Inference(model, tokenizer, knows_ids=True)
    with inference.running() as url:
        backends = {
            dialect: ServedModel.load(
                url,
                "tiny",
                llama_folder,
                dialect=dialect,
                form=PromptForm(record="{record}", frame="{prompt}:"),
                record_tokens=24,
                limit_s=5.0,
            )
            for dialect in DIALECTS
        }
        yield inference, backends


@pytest.fixture(params=DIALECTS)
def backend(request: pytest.FixtureRequest, served: Any) -> Iterator[ServedModel]:
    inference, backends = served
    yield backends[request.param]
    inference.instead = lambda _: None


@pytest.fixture
def inference(served: Any) -> Inference:
    found: Inference = served[0]
    return found


def test_a_draft_is_the_models_own_and_its_candidates_are_what_the_server_tells(
    backend: ServedModel, inference: Inference
) -> None:
    ask = PublicAsk(prompt=PROMPT, released=(), draft=2, candidates=64, reach_logits=1.0)

    draft = public_draft(ask, backend)

    assert 1 <= len(draft.draft) <= 2
    assert all(1 <= len(ids) <= TOP for ids in draft.candidates)
    logs = inference.logs(inference.asked[-len(draft.candidates)])
    ids, told = draft.candidates[0], np.frombuffer(draft.logits[0], dtype="<f4")
    np.testing.assert_allclose(told, logs[list(ids)].numpy(), atol=1e-4)
    assert ids[0] == int(logs.argmax())


def test_scores_are_the_models_log_probabilities_and_every_slot_has_one_width(
    backend: ServedModel, inference: Inference
) -> None:
    inference.asked.clear()
    candidates = inference.logs([1, 2]).topk(5).indices.tolist()
    contexts = backend.contexts(PROMPT, ["a record", None, "b" * 200])

    (found,) = contexts.score([], [], [candidates])

    assert len({len(ids) for ids in inference.asked}) == 1
    for row, ids in zip(found, inference.asked, strict=True):
        logs = inference.logs(ids)
        known = set(range(len(logs)))
        if backend.candidates_most == TOP:  # the likeliest whose text is theirs alone
            known = {token for token in logs.topk(TOP).indices.tolist() if is_alone(backend, token)}
        least = min(float(logs[token]) for token in known)
        for value, token in zip(row, candidates, strict=True):
            expected = float(logs[token]) if token in known else least
            assert value == pytest.approx(expected, abs=1e-4)


def is_alone(backend: ServedModel, token: int) -> bool:
    return backend._id_of(backend._tokenizer.decode([token])) == token


GARBAGE = [
    b"",
    b"not JSON",
    b"[]",
    b"[" * 5000,
    b"{}",
    b'{"choices": [{"logprobs": {"top_logprobs": [{}]}}], "meta_info": {}}',
    b'{"choices": [{"logprobs": {"top_logprobs": [{"token_id:1": "x"}]}}]}',
    b'{"choices": [{"logprobs": {"top_logprobs": [{"token_id:1": NaN, "token_id:2": Infinity}]}}]}',
    b'{"meta_info": {"output_token_ids_logprobs": [[[1e999, 1]]], "output_top_logprobs": 7}}',
    b"x" * (1 << 21),
]


@pytest.mark.parametrize("said", GARBAGE, ids=range(len(GARBAGE)))
def test_what_a_server_says_for_one_slot_stays_in_that_slot(
    backend: ServedModel, inference: Inference, said: bytes
) -> None:
    candidates = inference.logs([1, 2]).topk(5).indices.tolist()
    public = np.zeros(5, dtype=np.float32)
    records = ["first", "second", "third"]
    (honest,) = backend.contexts(PROMPT, records).score([], [], [candidates])
    poisoned = backend.slot("second") + backend._shared(PROMPT)
    inference.instead = lambda ids: said if ids == poisoned else None

    (found,) = backend.contexts(PROMPT, records).score([], [], [candidates])

    np.testing.assert_array_equal(found[[0, 2]], honest[[0, 2]])
    moved = clipped_sum(found, public, CLIP) - clipped_sum(honest, public, CLIP)
    assert np.abs(moved).max() <= 2 * GRID


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "logprobs", "top_logprobs", "meta_info", "output_top_logprobs",
                 "output_token_ids_logprobs", "token_id:3", "a"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(answer=JSON, dialect=st.sampled_from(DIALECTS), is_named=st.booleans())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_answer_is_numbers_or_nothing(answer: Any, dialect: str, is_named: bool) -> None:
    known = read(dialect, answer, is_named=is_named, id_of=lambda _: 5)

    if known is not None:
        assert known
        assert all(-1e6 <= value <= 0 for value in known.values())


def test_a_whole_step_of_an_agent_over_a_server_is_clipped(
    tmp_path: Path, backend: ServedModel, inference: Inference
) -> None:
    hospital = Hospital(tmp_path)
    hospital.model = backend  # type: ignore[assignment]
    agent = hospital.restart()
    lies = iter(range(10**6))

    def lie(_: list[int]) -> bytes:
        value = [0.0, -1e308, -5.0][next(lies) % 3]
        tokens = {f"token_id:{token}": value for token in range(8)}
        rows = [[[value, token, None] for token in range(8)]]
        meta = {"output_top_logprobs": rows, "output_token_ids_logprobs": rows}
        choices = [{"logprobs": {"top_logprobs": [tokens]}}]
        return json.dumps({"meta_info": meta, "choices": choices}).encode()

    inference.instead = lie

    async def main() -> list[list[int]]:
        same = {"weights": backend.weights, "tokenizer": backend.tokenizer}
        handle = await opened(agent, hospital.ask(max_tokens=4, **same))
        ids = tuple(range(8))
        logits = np.zeros(8, dtype="<f4").tobytes()
        step = Step(handle=handle, released=(), draft=(), candidates=(ids,), logits=(logits,))
        sums = numbers((await agent.step(step)).sums)
        await agent.aclose()
        return sums

    (row,) = asyncio.run(main())
    assert max(map(abs, row)) <= 8 * GRID


def test_a_server_that_is_away_is_said_where_no_record_is_asked_about(
    llama_folder: Path,
) -> None:
    away = ServedModel.load("http://127.0.0.1:9", "tiny", llama_folder, record_tokens=24)

    with pytest.raises(Refused, match="unavailable"):
        away.continuation(PROMPT, [], 1)
    (row,) = away.contexts(PROMPT, ["a record"]).score([], [], [[1, 2]])
    assert np.isnan(row).all()
    assert away.choices("q", ["a record"], ["yes", "no"]).tolist() == [0]


def test_votes_are_the_likeliest_option_of_each_slot(
    backend: ServedModel, inference: Inference
) -> None:
    options = ["a", "b"]

    chosen = backend.choices("q", ["first", None], options)

    assert chosen.shape == (2,)
    assert set(chosen.tolist()) <= {0, 1}


def test_its_digest_is_no_computed_models(served: Any, llama_folder: Path) -> None:
    backends = served[1]
    assert backends["vllm"].weights == backends["sglang"].weights
    assert backends["openai"].weights != backends["vllm"].weights
    assert weights_digest(llama_folder, PromptForm()) != backends["vllm"].weights
    with pytest.raises(InvalidParameter, match="dialect"):
        ServedModel.load("http://x", "tiny", llama_folder, dialect="other")
