"""Submissions: everything that is wrong is said at once, with its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_finetuner.jobs import TrainingSpec
from privacy_finetuner.jobs.submission import OF_THE_SERVICE, SPEC_BYTES_MOST, faults_of, privacy_of


def spec(**changes: Any) -> TrainingSpec:
    given_: dict[str, Any] = {"model": "m", "dataset": "d", "privacy": {"epsilon": 3.0}}
    return TrainingSpec(**(given_ | changes))


def paths(**changes: Any) -> set[str]:
    return {fault.path for fault in faults_of(spec(**changes))}


@pytest.mark.parametrize(
    "fine",
    [
        {},
        {"privacy": {}},
        {"privacy": {"epsilon": 3, "delta": 1e-6, "relation": "replace_one", "noise": "banded"}},
        {"training": {"learning_rate": "auto", "adapter": "lora", "lora_rank": 8}},
        {"training": {"lora_targets": ["q_proj"], "lora_rank": 4, "epochs": 0.5}},
        {"training": {"unit": "user", "user_field": "patient", "max_examples_per_user": 3}},
        {"training": {"eval_dataset": "public.jsonl", "eval_steps": 10}},
        {"training": {"noise_multiplier": 1.1, "target_epsilon": 2, "target_delta": 1e-6}},
        {"account": "notes/2026", "quota": "clinic/research"},
        {"account": "protection/o_1:notes/2026"},
    ],
)
def test_what_the_trainer_takes_is_taken(fine: dict[str, Any]) -> None:
    assert faults_of(spec(**fine)) == []


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"model": ""}, "model"),
        ({"dataset": "a\nb"}, "dataset"),
        ({"dataset": 7}, "dataset"),
        ({"privacy": {"epsilon": "8"}}, "privacy.epsilon"),
        ({"privacy": {"epsilon": True}}, "privacy.epsilon"),
        ({"privacy": {"epsilon": 0}}, "privacy.epsilon"),
        ({"privacy": {"delta": 1.0}}, "privacy.delta"),
        ({"privacy": {"target_delta": 0.5}}, "privacy.target_delta"),
        ({"privacy": {"secure_rng": "yes"}}, "privacy.secure_rng"),
        ({"privacy": {"relation": "none"}}, "privacy.relation"),
        ({"privacy": {"epsilon": 3, "budget": 3}}, "privacy.budget"),
        ({"privacy": []}, "spec"),
        ({"training": {"batch_size": 2.5}}, "training.batch_size"),
        ({"training": {"optimizer": "sgdd"}}, "training.optimizer"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate"),
        ({"training": {"label_names": "abc"}}, "training.label_names"),
        ({"training": {"lora_rank": "4"}}, "training.lora_rank"),
        ({"training": {"target_epsilon": -1}}, "training.target_epsilon"),
        ({"training": {"eval_steps": 5}}, "training"),
        ({"training": {"unit": "user"}}, "training"),
        ({"training": {"user_sampling": True}}, "training"),
        ({"training": {"epsilon": 1}}, "training.epsilon"),
        ({"account": "notes"}, "account"),
        ({"quota": "clinic/ada"}, "quota"),
        ({"training": {"text_field": "x" * SPEC_BYTES_MOST}}, "spec"),
        ({"training": {"optimizer_options": {"lr": float("nan")}}}, "spec"),
        ({"training": {"optimizer_options": object()}}, "spec"),
    ],
)
def test_what_it_would_refuse_is_refused_with_its_path(wrong: dict[str, Any], path: str) -> None:
    assert paths(**wrong) == {path}


@pytest.mark.parametrize("name", sorted(OF_THE_SERVICE))
def test_what_is_the_services_is_not_a_submitters(name: str) -> None:
    (fault,) = faults_of(spec(training={name: True}))
    assert fault.path == f"training.{name}"
    assert OF_THE_SERVICE[name] in fault.message


def test_a_mistyped_keyword_is_told_the_nearest_one() -> None:
    (fault,) = faults_of(spec(training={"learning_rat": 1e-3}))
    assert fault.message == "there is no such keyword; did you mean 'learning_rate'?"


def test_all_faults_come_together() -> None:
    found = paths(
        model="", privacy={"epsilon": -1, "delta": 2}, training={"epochs": 0, "views": 0}, quota="q"
    )
    assert found == {
        "model", "privacy.epsilon", "privacy.delta", "training.epochs", "training.views", "quota",
    }  # fmt: skip


def test_a_long_value_is_not_repeated_whole() -> None:
    (fault,) = faults_of(spec(privacy={"epsilon": "e" * 5000}))
    assert len(fault.message) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["epsilon", "delta", "noise", "relation", "accounting_mode", "epochs", "batch_size", "unit",
     "adapter", "lora_rank", "views", "clip_rule", "learning_rate", "precision", "nonsense"]
)  # fmt: skip


@given(
    privacy=st.dictionaries(NAMES, JSON, max_size=3),
    training=st.dictionaries(NAMES, JSON, max_size=4),
)
@settings(max_examples=120, deadline=None)
def test_whatever_is_submitted_is_accepted_or_named(
    privacy: dict[str, Any], training: dict[str, Any]
) -> None:
    wanted = spec(privacy=privacy, training=training)
    faults = faults_of(wanted)
    assert all(fault.path and fault.message for fault in faults)
    if not faults:
        privacy_of(wanted)
