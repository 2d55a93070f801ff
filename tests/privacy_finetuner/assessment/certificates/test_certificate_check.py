"""Verifying: any change is found, and each kind of failure says what it is."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_check import verify
from privacy_finetuner.assessment.certificate_errors import (
    CertificateContradicts,
    CertificateError,
    CertificateExpired,
    MalformedCertificate,
    NotACertificate,
    RunDiffers,
)
from privacy_finetuner.training.run_record import RunRecord
from privacy_runtime.signing import (
    KeyExpired,
    NotCanonical,
    PublicKey,
    SignatureInvalid,
    SigningError,
    SigningKey,
    TrustedKeys,
    UnknownKey,
    canonical_bytes,
)
from privacy_runtime.testing import SeededEntropy

REFUSED = (CertificateError, SigningError)
Path_ = tuple[str | int, ...]


def leaves(node: Any, at: Path_ = ()) -> Iterator[Path_]:
    """The place of every value that holds no other."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*at, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, (*at, index))
    else:
        yield at


def containers(node: Any, at: Path_ = ()) -> Iterator[Path_]:
    if isinstance(node, dict | list):
        yield at
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from containers(value, (*at, key))


def inside(document: Any, at: Path_) -> Any:
    for name in at:
        document = document[name]
    return document


def changed(document: Any, at: Path_, value: object) -> Any:
    made = copy.deepcopy(document)
    inside(made, at[:-1])[at[-1]] = value
    return made


def written(document: Any) -> bytes:
    return canonical_bytes(document) + b"\n"


def signed(document: Any, key: Any) -> bytes:
    """The same document, signed again by the one who may."""
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    return written({**unsigned, "signature": key.sign(canonical_bytes(unsigned))})


def other_values(value: Any) -> list[Any]:
    """Values of the same kind and of others."""
    match value:
        case bool():
            return [not value, int(value), None]
        case int() | float():
            return [value + 1, value * 0.5, -value, str(value), None, True]
        case str():
            flipped = ("0" if value[-1:] != "0" else "1") if value else "x"
            return [value[:-1] + flipped, value + " ", value.upper() + "A", "", None, 0]
        case _:
            return [0, "", False, {}, []]


def test_every_single_change_of_a_value_is_refused(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    places = list(leaves(genuine.document))

    assert len(places) > 90
    for at in places:
        for value in other_values(inside(genuine.document, at)):
            content = written(changed(genuine.document, at, value))
            if content == genuine.content:
                continue
            with pytest.raises(REFUSED):
                verify(content, trusted=shared_run.trusted, now=noon)


def test_every_removed_added_or_swapped_part_is_refused(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    variants = []
    for at in containers(genuine.document):
        node = inside(genuine.document, at)
        for key in node if isinstance(node, dict) else range(len(node)):
            variant = copy.deepcopy(genuine.document)
            del inside(variant, at)[key]
            variants.append(variant)
        variant = copy.deepcopy(genuine.document)
        if isinstance(node, dict):
            inside(variant, at)["one_more"] = 1
        else:
            inside(variant, at).append("one more")
            for k in range(len(node) - 1):
                swapped = copy.deepcopy(genuine.document)
                items = inside(swapped, at)
                items[k], items[k + 1] = items[k + 1], items[k]
                variants.append(swapped)
        variants.append(variant)

    assert len(variants) > 150
    for variant in variants:
        if variant == genuine.document:
            continue  # two equal neighbours
        with pytest.raises(REFUSED):
            verify(written(variant), trusted=shared_run.trusted, now=noon)


@given(data=st.data())
def test_one_changed_byte_anywhere_is_refused(
    genuine: Certificate, shared_run: Any, noon: datetime, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(genuine.content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != genuine.content[place]))
    content = genuine.content[:place] + bytes([byte]) + genuine.content[place + 1 :]

    with pytest.raises(REFUSED):
        verify(content, trusted=shared_run.trusted, now=noon)


@pytest.mark.parametrize(
    "step", [6, pytest.param(1, marks=pytest.mark.slow)], ids=["some bytes", "every byte"]
)
def test_the_lowest_bit_of_a_byte_counts(
    genuine: Certificate, shared_run: Any, noon: datetime, step: int
) -> None:
    for place, byte in list(enumerate(genuine.content))[::step]:
        content = genuine.content[:place] + bytes([byte ^ 1]) + genuine.content[place + 1 :]
        with pytest.raises(REFUSED):
            verify(content, trusted=shared_run.trusted, now=noon)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"\n"), (b"\n", b""), (b" ", b""), (b"\xef\xbb\xbf", b""), (b"", b"{}")],
)
def test_bytes_around_it_are_refused(
    genuine: Certificate, shared_run: Any, noon: datetime, before: bytes, after: bytes
) -> None:
    with pytest.raises(REFUSED):
        verify(before + genuine.content + after, trusted=shared_run.trusted, now=noon)


FREE = {
    "id", "issued_at", "expires_at", "signer", "run", "ledger", "weights", "software",
    "issued_with", "peer",
}  # fmt: skip
"""What nothing else in a certificate follows from: its signer vouches for it."""


def test_a_signer_cannot_sign_a_figure_that_contradicts_the_rest(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    """Every value outside `FREE` follows from others: changing one and signing again is found."""
    document = genuine.document
    places = [at for at in leaves(document) if at[0] not in FREE | {"signature"}]
    # At the same price a run could have been asked for more, clipped elsewhere, or been audited.
    unbound = {("plan", "steps_asked"), ("plan", "clip_norm"), ("plan", "canaries"),
               ("dataset", "commitment"), ("audit",)}  # fmt: skip

    for at in places:
        if at in unbound:
            continue
        for value in other_values(inside(document, at)):
            variant = changed(document, at, value)
            content = signed(variant, shared_run.key)
            if content == genuine.content:
                continue
            with pytest.raises(CertificateError):
                verify(content, trusted=shared_run.trusted, now=noon)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("guarantee", "epsilon"), 1.0, "stated as 1"),
        (("prices", "rdp"), 3.0, "rdp finds"),
        (("prices", "pld"), None, "pld finds"),
        (("guarantee", "relation"), "replace_one", "guarantee.relation"),
        (("guarantee", "unit"), "user", "guarantee.unit"),
        (("guarantee", "accountant"), "rdp", "guarantee.accountant"),
        (("plan", "noise_multiplier"), 9.0, "priced for 9"),
        (("plan", "sampler"), "shuffled", "none that this program has"),
        (("plan", "sampler"), "full_batch", "full_batch"),
        (("plan", "clip_norm"), 0.0, "nothing bounds one example"),
        (("plan", "clip_rule"), "none", "clip rule"),
        (("plan", "steps_asked"), 3, "3 were asked for"),
        (("plan", "secure_rng"), False, "noise"),
        (("plan", "steps"), 8, "event is not the one"),
        (("event", "event", "count"), 8, "event is not the one"),
        (("run", "charged_steps"), 10_000, "more steps are charged"),
        (("run", "noise"), "a better generator", "run.noise"),
        (("dataset", "examples"), 9, "dataset.examples"),
        (("peer", "epsilon"), 0.5, "no upper bound lies that far below"),
        (("ledger", "guarantee", "unit"), "user", "ledger.guarantee.unit"),
        (("ledger", "account"), "another", "ledger.account"),
        (("signer", "key_id"), "00" * 16, "key id"),
        (("signer", "not_after"), "2030-01-03T00:00:00Z", "outside the time"),
        (("expires_at",), "2029-01-01T00:00:00Z", "outside the time"),
        (("outside_guarantee",), ["nothing"], "outside_guarantee"),
        (("assumptions",), ["none"], "assumptions"),
    ],
)
def test_a_contradiction_is_named(
    genuine: Certificate, shared_run: Any, noon: datetime, at: Path_, value: object, said: str
) -> None:
    content = signed(changed(genuine.document, at, value), shared_run.key)

    with pytest.raises(CertificateContradicts, match=said):
        verify(content, trusted=shared_run.trusted, now=noon)


@pytest.mark.parametrize(
    ("at", "value", "place"),
    [
        (("id",), "AB" * 16, "certificate.id"),
        (("weights",), {}, "certificate.weights"),
        (("weights", "../../x.safetensors"), "ab" * 32, "certificate.weights"),
        (("guarantee", "epsilon"), -1, "certificate.guarantee.epsilon"),
        (("guarantee", "delta"), 2, "certificate.guarantee.delta"),
        (("guarantee", "epsilon"), True, "certificate.guarantee.epsilon"),
        (("run", "job_id"), "a\x1b[31m", "certificate.run.job_id"),
        (("run", "job_id"), "a\u202eb", "certificate.run.job_id"),
        (("issued_at",), "yesterday", "certificate.issued_at"),
        (("audit",), {}, "certificate.audit"),
        (("ledger",), [], "certificate.ledger"),
        (("note",), "one more", "certificate: "),
    ],
)
def test_a_field_of_another_form_is_named(
    genuine: Certificate, shared_run: Any, noon: datetime, at: Path_, value: object, place: str
) -> None:
    content = signed(changed(genuine.document, at, value), shared_run.key)

    with pytest.raises(MalformedCertificate, match=place):
        verify(content, trusted=shared_run.trusted, now=noon)


@pytest.mark.parametrize("name", ["event", "signature", "guarantee", "outside_guarantee"])
def test_a_missing_field_is_named(
    genuine: Certificate, shared_run: Any, noon: datetime, name: str
) -> None:
    document = {key: value for key, value in genuine.document.items() if key != name}

    with pytest.raises(MalformedCertificate, match=rf"certificate\.{name}: found nothing"):
        verify(written(document), trusted=shared_run.trusted, now=noon)


def test_an_unknown_version_is_refused_as_such(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    content = signed({**genuine.document, "version": 2}, shared_run.key)

    with pytest.raises(NotACertificate, match="version that this program does not know"):
        verify(content, trusted=shared_run.trusted, now=noon)


@pytest.mark.parametrize("content", [b"", b"hello", b"[]\n", b"{}\n", b"\x00" * 40, b"null\n"])
def test_what_is_no_certificate_is_called_so(noon: datetime, content: bytes) -> None:
    with pytest.raises(NotACertificate):
        verify(content, trusted=TrustedKeys(), now=noon)


def test_a_runs_statement_is_no_certificate(shared_run: Any, noon: datetime) -> None:
    content = (shared_run.folder / "statement.json").read_bytes()

    with pytest.raises(NotACertificate, match="certificate issue"):
        verify(content, trusted=shared_run.trusted, now=noon)


def test_the_same_document_with_blanks_is_refused(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    content = json.dumps(genuine.document, indent=1).encode() + b"\n"

    with pytest.raises(NotCanonical):
        verify(content, trusted=shared_run.trusted, now=noon)


def test_time_is_checked(genuine: Certificate, shared_run: Any, noon: datetime) -> None:
    for now, said in [
        (noon - timedelta(seconds=1), "not valid before"),
        (noon + timedelta(days=366), "expired at"),
    ]:
        with pytest.raises(CertificateExpired, match=said):
            verify(genuine.content, trusted=shared_run.trusted, now=now)


def test_a_key_that_the_reader_no_longer_trusts_is_expired(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    public = shared_run.key.public
    retired = PublicKey(
        public_key=public.public_key, not_before="2029-01-01T00:00:00Z",
        not_after="2030-01-02T12:00:00Z",
    )  # fmt: skip
    trusted = TrustedKeys([retired])
    verify(genuine.content, trusted=trusted, now=noon)

    with pytest.raises(KeyExpired, match="2030-01-02T12:00:00Z"):
        verify(genuine.content, trusted=trusted, now=noon + timedelta(hours=1))


def test_an_unknown_key_proves_no_origin(genuine: Certificate, noon: datetime) -> None:
    with pytest.raises(UnknownKey, match="signed by a key you do not trust"):
        verify(genuine.content, trusted=TrustedKeys(), now=noon)

    found = verify(genuine.content, trusted=TrustedKeys(), now=noon, allow_unknown_key=True)
    assert found.trusted is None


def test_a_signature_of_another_key_is_refused(
    genuine: Certificate, shared_run: Any, noon: datetime, tmp_path: Path
) -> None:
    other = SigningKey.create(tmp_path / "other.pem", SeededEntropy(8), now=noon)

    with pytest.raises(SignatureInvalid):
        verify(signed(genuine.document, other), trusted=shared_run.trusted, now=noon)


def test_the_files_of_the_run_are_compared(made: Any, noon: datetime) -> None:
    run = made()
    content = run.issue().content
    verify(content, trusted=run.trusted, now=noon, run=run.folder)
    weights = run.folder / "model-00001.safetensors"
    original = weights.read_bytes()

    weights.write_bytes(original + b"\0")
    with pytest.raises(RunDiffers, match="was changed"):
        verify(content, trusted=run.trusted, now=noon, run=run.folder)
    weights.unlink()
    with pytest.raises(RunDiffers, match="is missing"):
        verify(content, trusted=run.trusted, now=noon, run=run.folder)
    weights.write_bytes(original)
    (run.folder / "more.safetensors").write_bytes(b"")
    with pytest.raises(RunDiffers, match="was added"):
        verify(content, trusted=run.trusted, now=noon, run=run.folder)
    (run.folder / "more.safetensors").unlink()
    with RunRecord(run.folder) as record:
        record.finish(run.plan.steps)
    with pytest.raises(RunDiffers, match="another entry"):
        verify(content, trusted=run.trusted, now=noon, run=run.folder)


def test_the_certificate_of_another_run_is_noticed(
    genuine: Certificate, made: Any, noon: datetime
) -> None:
    other = made(epsilon=2.0)

    with pytest.raises(RunDiffers, match="another plan"):
        verify(genuine.content, trusted=other.trusted, now=noon, run=other.folder)


def test_the_peer_is_asked_again_where_it_is_asked_for(
    genuine: Certificate, shared_run: Any, noon: datetime
) -> None:
    found = verify(genuine.content, trusted=shared_run.trusted, now=noon, with_peer=True)

    assert any(said.startswith("dp_accounting.pld") for said in found.findings)


@pytest.mark.parametrize(
    "face", ["privacy_finetuner.assessment.certificate_check", "privacy_finetuner.cli.certificate"]
)
def test_verifying_loads_no_torch_no_database_and_no_peer(face: str) -> None:
    heavy = {
        "torch", "transformers", "peft", "datasets", "matplotlib", "sqlalchemy", "psycopg",
        "dp_accounting", "scipy.optimize", "jinja2", "reportlab", "pandas",
    }  # fmt: skip
    code = f"import sys, {face}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
