"""How questions are counted: enough to see a burst, and nothing of what was asked."""

from __future__ import annotations

import pytest

from privacy_finetuner.operations.questions import Questions
from privacy_runtime.testing import ManualClock, SeededEntropy


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def questions(clock: ManualClock) -> Questions:
    return Questions(clock, SeededEntropy(1))


def ask(questions: Questions, prompt: str, who: str = "u_1") -> None:
    questions.note("o_1", who, model="sample:model", prompt=prompt)


def test_few_questions_are_nobodys_business(questions: Questions) -> None:
    for n in range(19):
        ask(questions, f"question {n}")

    assert questions.counted() == []


def test_what_differs_in_the_last_word_has_one_stem(questions: Questions) -> None:
    for n in range(20):
        ask(questions, f"The  code of Ada is {n}")
    for n in range(5):
        ask(questions, f"{n} other things")
    (body,) = questions.counted()

    assert (body["questions"], body["distinct"], body["same_stem"]) == (25, 25, 20)
    assert set(body) == {"tenant", "subject", "questions", "distinct", "same_stem", "window_s"}


def test_asking_the_same_again_is_one_question_of_one_stem(questions: Questions) -> None:
    for _ in range(20):
        ask(questions, "What is the code?")
    (body,) = questions.counted()

    assert (body["distinct"], body["same_stem"]) == (1, 20)


def test_counts_are_handed_out_at_every_twentieth_question(questions: Questions) -> None:
    noted = []
    for n in range(100):
        ask(questions, f"question {n}")
        noted += [body["questions"] for body in questions.counted()]

    assert noted == [20, 40, 60, 80, 100]


def test_what_is_older_than_ten_minutes_is_forgotten(
    questions: Questions, clock: ManualClock
) -> None:
    for _ in range(19):
        ask(questions, "early")
    clock.advance(601)
    ask(questions, "late")
    assert questions.counted() == []

    for _ in range(19):
        ask(questions, "late")
    (body,) = questions.counted()
    assert body["questions"] == 20


def test_askers_are_counted_apart(questions: Questions) -> None:
    for who in ("u_1", "u_2"):
        for n in range(15):
            ask(questions, f"{n}", who)

    assert questions.counted() == []


def test_nothing_of_a_prompt_is_kept(questions: Questions) -> None:
    for _ in range(25):
        ask(questions, "heliotrope heliotrope")

    assert "heliotrope" not in repr(vars(questions)) + repr(questions.counted())
