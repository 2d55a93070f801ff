"""The checks behind the quality gates, each on the very system, none on its private records.

Statistical checks state their false-alarm rate, 1e-6 each. What runs the model runs a copy, on
public inputs made by counting.
"""

from __future__ import annotations

import copy
import math
import pickle
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

import scipy
import torch
from torch import Tensor

from privacy_core import dp_events
from privacy_core.accounting import epsilon_of
from privacy_core.errors import UnsupportedEvent
from privacy_finetuner.assessment.evidence import faults_of_statement, read_evidence
from privacy_finetuner.assessment.quality import Check, CheckFailed, NothingToCheck, Suites, System
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import DatasetError
from privacy_finetuner.trainer import PrivateTrainer
from privacy_finetuner.training import run_record
from privacy_finetuner.training.engine import Clip, GradientSource, make_gradient
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_finetuner.training.records import read_records
from privacy_finetuner.training.sampling import PoissonSampler
from privacy_runtime.append_log import RunRecordDamaged, read_log
from privacy_runtime.keystream import KeyStream

_FALSE_ALARM: Final = 1e-6
_ROUNDING: Final = 1e-5
_OTHER: Final = MappingProxyType({"pld": "rdp", "rdp": "pld", "gdp": "pld"})
_ROUNDS: Final = 3
_MADE_UP: Final = tuple(f"made-up record {number} of a check" for number in range(48))
_SECRET_NAMES: Final = ("*.key", "canaries*", ".resume", "*vault*")


def price_by_two_accountants(system: System) -> str:
    """The stored event costs what was reported, by its accountant, and no less by another."""
    report = system.trainer.get_privacy_report()
    stated = report.theoretical_guarantees
    if report.event is None or stated is None:
        raise NothingToCheck("the trainer has run nothing yet")
    event = dp_events.from_json(report.event)
    again = epsilon_of(event, stated.delta, stated.accountant, relation=stated.relation)
    if not math.isclose(again, stated.epsilon, rel_tol=1e-9):
        raise CheckFailed(f"the event costs {again:.6g}, the report says {stated.epsilon:.6g}")
    words = f"epsilon {again:.4g} by {stated.accountant}"
    try:
        name = _OTHER[stated.accountant]
        other = epsilon_of(event, stated.delta, name, relation=stated.relation)
    except UnsupportedEvent:
        return f"{words}; no other accountant prices this event"
    tight, loose = (again, other) if stated.accountant == "pld" else (other, again)
    if stated.accountant != "gdp" and tight > loose * (1 + 1e-9):
        raise CheckFailed(f"the tight price {tight:.6g} is above the loose one {loose:.6g}")
    return f"{words}, {other:.4g} by {name}"


def promise_covers_what_was_spent(system: System) -> str:
    """Nothing beyond the budget was spent."""
    spent = system.trainer.get_privacy_report().privacy_spent
    promised = system.trainer.privacy_config
    if spent.epsilon > promised.epsilon * (1 + 1e-9):
        raise CheckFailed(f"epsilon {spent.epsilon:.6g} is spent of {promised.epsilon:.6g}")
    return f"epsilon {spent.epsilon:.4g} of {promised.epsilon:.4g}"


def noise_has_the_planned_spread(system: System) -> str:
    """Sum of squares and mean of fresh noise, two-sided."""
    secure = system.trainer.privacy_config.secure_rng
    source = GaussianNoise.secure if secure else GaussianNoise.fast
    count = system.configuration.sample_size
    drawn = source(system.entropy).standard_normal(count).double()
    square, mean = float(drawn.square().sum()), float(drawn.mean())
    low = float(scipy.stats.chi2.ppf(_FALSE_ALARM / 4, df=count))
    high = float(scipy.stats.chi2.isf(_FALSE_ALARM / 4, df=count))
    most = -scipy.stats.norm.ppf(_FALSE_ALARM / 4) / math.sqrt(count)
    if not low < square < high or abs(mean) > most:
        raise CheckFailed(
            f"{count} samples have variance {square / count:.4g} and mean {mean:.2g}, expected 1 "
            "and 0"
        )
    return f"variance {square / count:.4g} of {count} samples"


def noise_is_not_repeated(system: System) -> str:
    """Two sources of the same entropy agree in no sample."""
    first, second = (GaussianNoise.secure(system.entropy).standard_normal(64) for _ in range(2))
    if bool((first == second).any()):
        raise CheckFailed("two fresh sources gave an equal sample, expected none")
    return "two fresh sources agree nowhere"


def batches_are_poisson(system: System) -> str:
    """Numbers drawn, in all and for one example, from the product's own sampler."""
    rate, examples = 0.1, 50
    draws = max(1, system.configuration.sample_size // 10)
    sampler = PoissonSampler(examples, rate, KeyStream.fresh(system.entropy))
    drawn = [sampler.draw() for _ in range(draws)]
    for count, trials in (
        (sum(len(batch) for batch in drawn), draws * examples),
        (sum(bool((batch == 0).any()) for batch in drawn), draws),
    ):
        law = scipy.stats.binom(trials, rate)
        if min(law.cdf(count), law.sf(count - 1)) < _FALSE_ALARM / 4:
            raise CheckFailed(f"{count} of {trials} were drawn, expected about {rate * trials:g}")
    return f"{draws} batches at rate {rate:g}"


def one_example_stays_within_the_bound(system: System) -> str:
    """Each public example, alone and among others, moves the clipped sum by at most the bound."""
    loaded, objective, probe = _probed(system)
    engine, words = make_gradient(loaded.model, objective, probe)
    try:
        engine.add(probe, Clip(1e9))
        norms = engine.add(probe, Clip(1e9)).norms_B
        engine.take(Clip(1e9))
        clip = Clip(max(float(norms.median()) / 2, 1e-6))
        whole = _sum_of(engine, probe, clip)
        count = len(norms)
        moved = []
        for index in range(count):
            kept = [i for i in range(count) if i != index]
            others = {name: values[kept] for name, values in probe.items()}
            moved.append(float((whole - _sum_of(engine, others, clip)).norm()))
    finally:
        engine.close()
    if max(moved) > clip.clip_norm * (1 + _ROUNDING):
        raise CheckFailed(
            f"an example moves the sum by {max(moved) / clip.clip_norm:.6g} bounds, expected 1"
        )
    return f"at most {max(moved) / clip.clip_norm:.6g} bounds; {words}"


def errors_hold_no_text(system: System) -> str:
    """A record that cannot be read is refused without a word of it."""
    secret = f"secret-{system.entropy.token_bytes(8).hex()}"
    try:
        read_records([{"text": 1, "note": secret}, {"note": secret}])
    except DatasetError as error:
        if secret in f"{error!r} {error} {error.__cause__!r}":
            raise CheckFailed("the error repeats the record's text") from None
        return "refused without its text"
    raise CheckFailed("a record without text was accepted")


def secrets_are_their_owners(system: System) -> str:
    """Keys, canaries and resume files of the run are readable by their owner alone."""
    folder = system.folder
    found = [p for name in _SECRET_NAMES for p in folder.rglob(name) if p.is_file()]
    open_ones = [p.name for p in found if stat.S_IMODE(p.stat().st_mode) & 0o077]
    if open_ones:
        raise CheckFailed(f"others may read {', '.join(sorted(open_ones))}")
    return f"{len(found)} secret files, all mode 0600"


def the_run_is_what_it_states(system: System) -> str:
    """The record's chain is whole, and plan, event and weights are those of the statement."""
    faults = faults_of_statement(read_evidence(system.folder))
    if faults:
        raise CheckFailed("; ".join(faults))
    return "record, statement and weight digests agree"


def a_changed_record_is_noticed(system: System) -> str:
    """A copy of the run record with one changed byte is refused."""
    path = system.folder / run_record.FILE_NAME
    if not path.is_file():
        raise NothingToCheck("the folder holds no run record")
    with tempfile.TemporaryDirectory() as place:
        other = Path(place) / run_record.FILE_NAME
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle] ^= 1
        other.write_bytes(bytes(content))
        try:
            read_log(other)
        except RunRecordDamaged:
            return f"byte {middle} of {len(content)} changed: refused"
    raise CheckFailed(f"byte {middle} of {len(content)} was changed, and the record was accepted")


def weights_are_data_alone(system: System) -> str:
    """Nothing in the folder runs code when it is loaded: tensors and JSON, no other objects."""
    files = [p for p in sorted(system.folder.rglob("*")) if p.is_file()]
    risky = [p.name for p in files if p.suffix in (".bin", ".pkl", ".py")]
    pickled = [p for p in files if p.suffix in (".pt", ".pth")]
    risky += [p.name for p in pickled if not _holds_tensors_alone(p)]
    if risky:
        raise CheckFailed(f"{', '.join(risky)} could run code when loaded")
    return f"{len(files)} files, {len(pickled)} of them read as tensors alone"


def _holds_tensors_alone(path: Path) -> bool:
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return False
    return True


def a_private_step_is_not_much_slower(system: System) -> str:
    """Medians of interleaved steps on public inputs, with and without per-example clipping."""
    loaded, objective, probe = _probed(system)
    engine, _ = make_gradient(loaded.model, objective, probe)
    trained = [p for p in loaded.model.parameters() if p.requires_grad]

    def private() -> None:
        engine.add(probe, Clip(1.0))
        engine.take(Clip(1.0))

    def plain() -> None:
        losses_B, _ = objective(loaded.model, probe)
        torch.autograd.grad(losses_B.sum(), trained, allow_unused=True)

    times: dict[str, list[float]] = {"private": [], "plain": []}
    private()
    for _ in range(_ROUNDS):
        for name, run in (("private", private), ("plain", plain)):
            start = system.clock.monotonic_s()
            run()
            times[name].append(system.clock.monotonic_s() - start)
    engine.close()
    ratio = sorted(times["private"])[_ROUNDS // 2] / sorted(times["plain"])[_ROUNDS // 2]
    if ratio > system.configuration.most_time_ratio:
        raise CheckFailed(
            f"{ratio:.2f} times a plain step, expected at most "
            f"{system.configuration.most_time_ratio:g}"
        )
    return f"{ratio:.2f} times a plain step, clipping alone, {len(probe['input_ids'])} examples"


def a_saved_model_is_the_same(system: System) -> str:
    """Saved and loaded again, the model gives the same losses on public inputs."""
    loaded, objective, probe = _probed(system)
    loaded.model.eval()
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        before, _ = objective(loaded.model, probe)
        system.trainer.save_model(place, include_privacy_state=False)
        other = PrivateTrainer(place, system.trainer.privacy_config, system.trainer.device)
        again = other._model(loaded.task)
        after, _ = objective(again.model.eval(), probe)
    worst = float((before - after).abs().max())
    if worst > _ROUNDING * max(1.0, float(before.abs().max())):
        raise CheckFailed(f"losses differ by {worst:.2g} after loading, expected none")
    return f"losses differ by {worst:.1g}"


def a_private_run_keeps_its_budget(system: System) -> str:
    """A short run on made-up records, on a copy of the model, within `privacy_budget`."""
    loaded = _copy(system)
    if loaded.task != "causal_lm":
        raise NothingToCheck("made-up records are texts; the model is a classifier")
    budget = system.configuration.privacy_budget
    place = tempfile.mkdtemp()
    try:
        trainer = PrivateTrainer(
            loaded.model,
            PrivacyConfig(epsilon=budget, delta=1e-3),
            system.trainer.device,
            enable_context_guard=False,
            tokenizer=loaded.tokenizer,
            entropy=system.entropy,
        )
        records = [{"text": text} for text in _MADE_UP]
        result = trainer.train(records, epochs=1, batch_size=12, output_dir=place)
        faults = faults_of_statement(read_evidence(Path(place)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if faults or result.privacy_spent.epsilon > budget * (1 + 1e-9):
        raise CheckFailed(
            f"epsilon {result.privacy_spent.epsilon:.4g} of {budget:g}; {'; '.join(faults)}"
        )
    return f"{result.steps} steps for epsilon {result.privacy_spent.epsilon:.4g}"


def _copy(system: System) -> LoadedModel:
    """The trainer's model, not the trainer's own."""
    loaded: LoadedModel = system.trainer._model(None)
    return LoadedModel(
        model=copy.deepcopy(loaded.model),
        tokenizer=loaded.tokenizer,
        device=loaded.device,
        task=loaded.task,
        base_name=loaded.base_name,
    )


def _probed(system: System) -> tuple[LoadedModel, Objective, dict[str, Tensor]]:
    """A copy of the model, its loss, and public inputs."""
    loaded = _copy(system)
    loaded.model.eval()
    classes = len(loaded.label_names) if loaded.task == "sequence_classification" else 0
    vocabulary = int(loaded.model.config.get_text_config().vocab_size)
    objective = Objective(loaded.task, classes or vocabulary)
    probe = public_probe(objective, vocabulary=vocabulary, device=loaded.device, examples=4)
    return loaded, objective, probe


def _sum_of(engine: GradientSource, batch: dict[str, Tensor], clip: Clip) -> Tensor:
    engine.add(batch, clip)
    return torch.cat([t.detach().flatten().double() for t in engine.take(clip).tensors])


def _check(about: str, run: Callable[[System], str]) -> Check:
    return Check(run.__name__, about, run)


CHECKS: Final[Suites] = MappingProxyType(
    {
        "privacy_tests": (
            _check("the price, by two accountants", price_by_two_accountants),
            _check("what was spent is within the promise", promise_covers_what_was_spent),
            _check("spread and mean of the noise", noise_has_the_planned_spread),
            _check("noise is never repeated", noise_is_not_repeated),
            _check("batches are Poisson", batches_are_poisson),
            _check("one example stays within the bound", one_example_stays_within_the_bound),
        ),
        "security_tests": (
            _check("errors hold no text", errors_hold_no_text),
            _check("secrets are their owner's", secrets_are_their_owners),
            _check("the run is what it states", the_run_is_what_it_states),
            _check("a changed record is noticed", a_changed_record_is_noticed),
            _check("weights are data alone", weights_are_data_alone),
        ),
        "performance_tests": (_check("time of a private step", a_private_step_is_not_much_slower),),
        "integration_tests": (
            _check("a saved model is the same", a_saved_model_is_the_same),
            _check("a private run keeps its budget", a_private_run_keeps_its_budget),
        ),
    }
)
"""By suite, in the order in which they run."""
