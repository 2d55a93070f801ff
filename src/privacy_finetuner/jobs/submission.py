"""Checking a submission in full before it is accepted: every fault, each with its path.

Types are checked against the annotations of `PrivacyConfig`, `TrainOptions` and `train`, then the
values by these themselves, so that what is accepted here is what the trainer accepts. Nothing is
read from the data set and torch is not loaded.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import Any, Final, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from privacy_core.errors import PrivacyError
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.domains import GRAD_NORM_LEAST, above_zero, at_least, given, inside_zero_one
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.jobs.errors import Fault, InvalidJob
from privacy_finetuner.jobs.model import TrainingSpec
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training.units import unit_of_run
from privacy_runtime.budget_store import parse_scope

PRIORITY_MOST: Final = 10
NAME_MOST: Final = 200
KEY_MOST: Final = 255
SPEC_BYTES_MOST: Final = 64 * 1024
_SUFFIX: Final = "; nothing was started"

OF_THE_SERVICE: Final = {
    "dataset": "name the records in `dataset`, beside `training`",
    "output_dir": "a job's files lie in a folder of its own",
    "resume": "a job is resumed by its workers",
    "on_step": "events are read from the job",
    "callbacks": "code cannot be submitted",
    "compute_metrics": "code cannot be submitted",
    "data_collator": "code cannot be submitted",
}
"""Keywords of `train` that are not a submitter's, and why."""

_TRAIN_TYPES: Final[Mapping[str, Any]] = {
    "epochs": float,
    "batch_size": int,
    "learning_rate": float | Literal["auto"],
    "max_grad_norm": float,
    "noise_multiplier": float | None,
    "target_epsilon": float | None,
    "target_delta": float | None,
    "save_steps": int,
    "eval_steps": int | None,
}
_TRAIN_DEFAULTS: Final = {
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 5e-5,
    "save_steps": 500,
    "eval_steps": None,
}
_STRICT: Final = ConfigDict(strict=True)


def require_valid(
    spec: TrainingSpec, *, name: str, tenant: str, owner: str, priority: int, key: str | None
) -> None:
    """Check a submission.

    Raises:
        InvalidJob: with every fault that was found.
    """
    faults = [
        *_text_faults("name", name, NAME_MOST),
        *_text_faults("tenant", tenant, NAME_MOST),
        *_text_faults("owner", owner, NAME_MOST),
        *([] if key is None else _text_faults("key", key, KEY_MOST)),
    ]
    is_whole = isinstance(priority, int) and not isinstance(priority, bool)
    if not is_whole or abs(priority) > PRIORITY_MOST:
        faults.append(Fault("priority", f"is {priority!r}, expected a whole number from -10 to 10"))
    faults += faults_of(spec)
    if faults:
        raise InvalidJob(faults)


def faults_of(spec: TrainingSpec) -> list[Fault]:
    """Everything that is wrong with a specification, in the order of its fields."""
    try:
        size = len(json.dumps(asdict(spec), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return [Fault("spec", "is not JSON with finite numbers")]
    if size > SPEC_BYTES_MOST:
        return [Fault("spec", f"has {size} bytes as JSON, expected at most {SPEC_BYTES_MOST}")]
    given_as: tuple[object, object] = (spec.privacy, spec.training)
    if not all(isinstance(each, Mapping) for each in given_as):
        return [Fault("spec", "privacy and training are objects of keywords")]
    return [
        *_text_faults("model", spec.model, 1024),
        *_text_faults("dataset", spec.dataset, 1024),
        *_account_faults(spec),
        *_privacy(spec.privacy)[1],
        *_training_faults(spec.training),
    ]


def privacy_of(spec: TrainingSpec) -> PrivacyConfig:
    """The guarantee that a specification asks for.

    Raises:
        InvalidJob: it is not one.
    """
    made, faults = _privacy(spec.privacy)
    if made is None or faults:
        raise InvalidJob(faults)
    return made


def _privacy(keywords: Mapping[str, Any]) -> tuple[PrivacyConfig | None, list[Fault]]:
    types = get_type_hints(PrivacyConfig)
    values, faults = _typed("privacy", keywords, types)
    made, more = _made("privacy", lambda: PrivacyConfig(**values))
    return made, [*faults, *more]


def _training_faults(keywords: Mapping[str, Any]) -> list[Fault]:
    faults = [
        Fault(f"training.{name}", f"is not taken from a submission: {why}")
        for name, why in OF_THE_SERVICE.items()
        if name in keywords
    ]
    rest = {name: value for name, value in keywords.items() if name not in OF_THE_SERVICE}
    values, more = _typed("training", rest, {**_TRAIN_TYPES, **_option_types()})
    faults += more
    own = {name: values.pop(name) for name in _TRAIN_TYPES if name in values}
    faults += _target_faults(own)
    options, more = _made("training", lambda: TrainOptions(**values))
    faults += more
    chosen: dict[str, Any] = {
        name: own.get(name, default) for name, default in _TRAIN_DEFAULTS.items()
    }
    if options is None:
        shared = {f.name for f in fields(TrainingConfig)} - {"clip_rule"}
        chosen |= {name: value for name, value in values.items() if name in shared}
        return [*faults, *_made("training", lambda: TrainingConfig(**chosen))[1]]
    training, more = _made("training", lambda: options.training(**chosen))
    faults += more
    if training is not None:
        faults += _made("training", lambda: unit_of_run(options, training))[1]
    return faults


def _target_faults(own: Mapping[str, Any]) -> list[Fault]:
    found = [
        at_least("max_grad_norm", own.get("max_grad_norm", 1.0), GRAD_NORM_LEAST),
        given(above_zero, "noise_multiplier", own.get("noise_multiplier")),
        given(above_zero, "target_epsilon", own.get("target_epsilon")),
        given(inside_zero_one, "target_delta", own.get("target_delta")),
    ]
    return [_fault("training", each) for each in found if each is not None]


def _account_faults(spec: TrainingSpec) -> list[Fault]:
    faults = []
    for path, kind, text in (
        ("account", "protection/", spec.account),
        ("quota", "quota/", spec.quota),
    ):
        if text is not None:
            named = f"{kind}{text.removeprefix(kind)}"
            faults += [Fault(path, f.message) for f in _made(path, partial(parse_scope, named))[1]]
    if spec.quota is not None and spec.account is None:
        faults.append(Fault("quota", "is charged beside an account, and none is named"))
    return faults


def _option_types() -> dict[str, Any]:
    hints = get_type_hints(TrainOptions, localns={"StepRecord": object})
    hints["eval_dataset"] = str | None
    return {f.name: hints[f.name] for f in fields(TrainOptions) if f.name not in OF_THE_SERVICE}


def _typed(
    path: str, keywords: Mapping[str, Any], types: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Fault]]:
    """The keywords whose type fits, as Python values, and what is wrong with the others."""
    values: dict[str, Any] = {}
    faults = []
    for name, value in keywords.items():
        if name not in types:
            near = difflib.get_close_matches(str(name), types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            faults.append(Fault(f"{path}.{name}", f"there is no such keyword{hint}"))
            continue
        try:
            adapter = TypeAdapter(types[name], config=_STRICT)
            values[name] = adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            said = error.errors(include_url=False, include_context=False, include_input=False)
            faults.append(Fault(f"{path}.{name}", f"is {_shown(value)}: {said[0]['msg']}"))
    return values, faults


def _made(path: str, make: Any) -> tuple[Any, list[Fault]]:
    """What `make` returns, or the faults that it names."""
    try:
        return make(), []
    except ConfigurationError as error:
        said = str(error).removesuffix(_SUFFIX).split("; ")
        return None, [_fault(path, each) for each in said]
    except (PrivacyError, TypeError, ValueError) as error:
        return None, [Fault(path, str(error))]


def _fault(path: str, said: str) -> Fault:
    """`epsilon is -1, expected ...` as a fault of `privacy.epsilon`."""
    name, _, rest = said.partition(" ")
    if name.isidentifier() and rest.startswith(("is ", "goes ", "needs ")):
        return Fault(f"{path}.{name}", rest)
    return Fault(path, said)


def _text_faults(path: str, value: object, most: int) -> list[Fault]:
    if isinstance(value, str) and 0 < len(value) <= most and value.isprintable():
        return []
    return [Fault(path, f"is {_shown(value)}, expected 1 to {most} printable characters")]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
