from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner import ContextGuard, PrivacyConfig, PrivateTrainer
from privacy_finetuner.context.records import RecordRedaction
from privacy_finetuner.errors import DatasetError
from privacy_finetuner.options import TrainOptions

ROWS = [
    {"text": "John Doe wrote from doe@example.org", "label": "a", "user": "doe@example.org"},
    {"text": "nothing here", "label": "b", "user": "u"},
]


@pytest.fixture
def redaction(guard: ContextGuard) -> RecordRedaction:
    return RecordRedaction(guard)


def test_texts_are_redacted_and_labels_and_users_stay(redaction: RecordRedaction) -> None:
    rows, options = redaction.applied(ROWS, TrainOptions(user_field="user"))

    assert rows[0] == {
        "text": "[PERSON] wrote from [EMAIL]", "label": "a", "user": "doe@example.org",
    }  # fmt: skip
    assert rows[1] == ROWS[1]
    assert options == TrainOptions(user_field="user")
    assert redaction.counts == {"EMAIL": 1, "PERSON": 1}


def test_a_record_is_redacted_alike_whoever_stands_beside_it(redaction: RecordRedaction) -> None:
    other = {"text": "Ada Byron, ada@example.org", "label": "a", "user": "v"}

    alone, _ = redaction.applied(ROWS, TrainOptions())
    beside, _ = redaction.applied([other, *ROWS, other], TrainOptions())

    assert list(beside[1:3]) == list(alone)


def test_fields_of_other_names_are_found(redaction: RecordRedaction, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("note,class\nfrom doe@example.org,0\nfine,1\n")

    rows, options = redaction.applied(
        str(path), TrainOptions(text_field="note", label_field="class")
    )

    assert rows[0] == {"text": "from [EMAIL]", "label": 0}
    assert (options.text_field, options.label_field) == ("text", "label")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "I am John Doe", "completion": "hello John Doe"},
        {"messages": [{"role": "user", "content": "I am John Doe"},
                      {"role": "assistant", "content": "hello John Doe"}]},
    ],
)  # fmt: skip
def test_all_that_is_learned_from_is_redacted(redaction: RecordRedaction, row: Any) -> None:
    rows, _ = redaction.applied([row], TrainOptions())

    assert "Doe" not in str(rows)
    assert str(rows).count("[PERSON]") == 2


def test_the_level_is_that_of_the_options(redaction: RecordRedaction) -> None:
    low, _ = redaction.applied(ROWS, TrainOptions(redact="low"))

    assert low[0]["text"] == "John Doe wrote from [EMAIL]"
    assert "level low" in redaction.note


def test_evaluation_records_are_redacted_and_not_counted(redaction: RecordRedaction) -> None:
    _, options = redaction.applied(ROWS, TrainOptions(eval_dataset=[ROWS[0]]))

    assert options.eval_dataset is not None
    assert "doe@" not in options.eval_dataset[0]["text"]
    assert redaction.counts == {"EMAIL": 1, "PERSON": 1}


def test_the_note_and_the_repr_give_no_count(redaction: RecordRedaction) -> None:
    redaction.applied(ROWS * 7, TrainOptions())

    assert "14" not in redaction.note + repr(redaction)
    assert not any(sign.isdigit() for sign in redaction.note)


def test_records_that_cannot_be_read_are_refused(redaction: RecordRedaction) -> None:
    with pytest.raises(DatasetError):
        redaction.applied([{"txt": "doe@example.org"}], TrainOptions())


def test_a_trainer_trains_on_redacted_records_and_says_so(
    llama_folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"mail p{n}@example.org"} for n in range(16)]
    trainer = PrivateTrainer(str(llama_folder), PrivacyConfig(epsilon=8.0, delta=1e-3), "cpu")
    result = trainer.train(
        rows, epochs=1, batch_size=8, max_length=16, output_dir=str(tmp_path / "out")
    )

    assert trainer.redaction is not None
    assert trainer.redaction.counts == {"EMAIL": 16}
    assert any("level medium" in note for note in result.notes)
    written = "".join(p.read_text() for p in (tmp_path / "out").glob("*.json*"))
    assert "example.org" not in written
