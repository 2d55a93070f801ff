"""One export: made in a folder of its own, read back, compared, and only then put in place."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.export.comparison import Comparison, Ids, compare, probe_of
from privacy_finetuner.export.errors import ExportDamaged, ExportError, ExportRejected
from privacy_finetuner.export.formats import answers_of, read, write
from privacy_finetuner.export.forms import (
    LEAST_AGREEMENT,
    Format,
    Quantization,
    require_libraries,
)
from privacy_finetuner.training.models import load_model
from privacy_finetuner.training.pretrained import refuse_missing_folder
from privacy_runtime.files import fsync_directory, write_atomic

MANIFEST: Final = "export.json"
VERSION: Final = 1
_SAME_AGAIN: Final = 0.99
_LIBRARIES: Final = ("torch", "transformers", "compressed-tensors", "onnxruntime", "onnxscript")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that was made, or found in its folder.

    Attributes:
        folder: where it is.
        format, quantization: what it is.
        is_classifier: whether it answers with classes instead of tokens.
        source: SHA-256 of each weight file of the source, as in its certificate.
        files: SHA-256 and size in bytes of each file of the export.
        comparison: how its answers differed from the source's.
        source_bytes, bytes: sizes of the weights before, and of all files after.
    """

    folder: Path
    format: Format
    quantization: Quantization
    is_classifier: bool
    source: Mapping[str, str]
    files: Mapping[str, tuple[str, int]]
    comparison: Comparison
    source_bytes: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        document = asdict(self)
        document["folder"] = str(self.folder)
        document["files"] = {
            name: {"sha256": digest, "bytes": size} for name, (digest, size) in self.files.items()
        }
        return document


def export_model(
    source: Path | str,
    output: Path | str,
    *,
    form: Format = Format.SAFETENSORS,
    quantization: Quantization = Quantization.NONE,
    least_agreement: float | None = None,
    trust_remote_code: bool = False,
) -> Export:
    """Write a model in another form, read it back from disk, and compare the two.

    Guarantee: `output` holds either what it held before or a whole export whose answers were
    compared with the source's. Adapters are folded into their base. An export is post-processing:
    it spends no privacy, and it is as private as its source.

    Args:
        source: a folder with a Hugging Face model or an adapter.
        output: the folder to make; it may hold an earlier export, which is replaced.
        form: for which programs.
        quantization: in how many bits.
        least_agreement: reject it below this share of equal likeliest answers; `None`: by
            `LEAST_AGREEMENT`.
        trust_remote_code: run model code that comes with the weights.

    Raises:
        ExportRejected: its answers differ too much.
        ExportError: the libraries cannot write or read this architecture so.
        ModelLoadError: the source does not load.
        ConfigurationError: the output is something else than an export, or a library is missing.
    """
    least = LEAST_AGREEMENT[quantization] if least_agreement is None else least_agreement
    if not 0 <= least <= 1:
        raise ConfigurationError(f"least_agreement is {least!r}, expected a share between 0 and 1")
    require_libraries(form, quantization)
    refuse_missing_folder(source)
    folder = Path(output).expanduser()
    _refuse_foreign(folder)
    loaded = load_model(source, task=_task(Path(source)), trust_remote_code=trust_remote_code)
    model = loaded.model.merge_and_unload() if loaded.is_adapter else loaded.model
    model.eval()
    ids = probe_of(model)
    expected = answers_of(model)(ids)

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as staging:
        made = Path(staging) / "export"
        made.mkdir()
        write(model, made, form, quantization)
        loaded.tokenizer.save_pretrained(made)
        is_classifier = loaded.task == "sequence_classification"
        answered = read(made, form, is_classifier=is_classifier)(ids)
        comparison = compare(expected, answered, ids)
        if not comparison.agreement >= least:
            raise ExportRejected(comparison.agreement, least)
        export = Export(
            folder=folder,
            format=form,
            quantization=quantization,
            is_classifier=is_classifier,
            source=_weight_digests(Path(source)),
            files=_digests(made),
            comparison=comparison,
            source_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
            bytes=sum(file.stat().st_size for file in made.iterdir()),
        )
        _put_in_place(made, export, ids, answered.argmax(-1), least)
    return export


def check_export(folder: Path | str) -> Export:
    """Check an export that lies in its folder: its files, that it loads, and what it answers.

    It answers the probe it was made with; its likeliest answers are those of the day it was made.

    Raises:
        ExportDamaged: a file is missing, was added to the list, or was changed.
        ExportError: there is no export, or it does not load.
        ExportRejected: it answers otherwise than when it was made.
    """
    place = Path(folder).expanduser()
    document = _manifest(place)
    export = _from_document(place, document)
    found = _digests(place)
    wrong = sorted(name for name in export.files if found.get(name) != export.files[name])
    if wrong:
        raise ExportDamaged(
            f"{', '.join(wrong)} of {place.name!r} differ from what was written; nothing was "
            "loaded; make the export again"
        )
    ids = np.asarray(document["probe"]["ids"], dtype=np.int64)
    answered = read(place, export.format, is_classifier=export.is_classifier)(ids).argmax(-1)
    agreement = float((answered == np.asarray(document["probe"]["answers"])).mean())
    if agreement < _SAME_AGAIN:
        raise ExportRejected(agreement, _SAME_AGAIN)
    return export


def _task(source: Path) -> Literal["causal_lm", "sequence_classification"]:
    try:
        names = json.loads((source / "config.json").read_text("utf-8")).get("architectures") or []
    except (OSError, ValueError):
        names = []  # an adapter's folder, or a broken one: the loader says which
    is_classifier = any("SequenceClassification" in name for name in names)
    return "sequence_classification" if is_classifier else "causal_lm"


def _refuse_foreign(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigurationError(f"{folder} is not a folder; nothing was written")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ConfigurationError(
            f"{folder} holds other files and no {MANIFEST}, so it is not an export to replace; "
            "name another folder; nothing was written"
        )


def _put_in_place(made: Path, export: Export, ids: Ids, answers: Any, least: float) -> None:
    """Exchange folders by renaming: a reader finds the old one, none for a moment, or the new."""
    document = {
        "version": VERSION,
        **{name: value for name, value in export.to_dict().items() if name != "folder"},
        "least_agreement": least,
        "probe": {"ids": ids.tolist(), "answers": answers.tolist()},
        "software": {name: _version(name) for name in _LIBRARIES},
    }
    write_atomic(made / MANIFEST, (json.dumps(document) + "\n").encode())
    fsync_directory(made)
    if export.folder.exists():
        export.folder.rename(made.parent / "before")
    made.rename(export.folder)
    fsync_directory(export.folder.parent)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except OSError as error:
        raise ExportError(f"{folder} has no readable {MANIFEST}: it is no export") from error
    except ValueError as error:
        raise ExportDamaged(f"{MANIFEST} of {folder.name!r} is not JSON") from error
    if document.get("version") != VERSION:
        raise ExportError(
            f"{MANIFEST} has version {document.get('version')!r}, this program reads {VERSION}"
        )
    return document


def _from_document(folder: Path, document: Mapping[str, Any]) -> Export:
    try:
        return Export(
            folder=folder,
            format=Format(document["format"]),
            quantization=Quantization(document["quantization"]),
            is_classifier=bool(document["is_classifier"]),
            source=dict(document["source"]),
            files={
                str(name): (str(file["sha256"]), int(file["bytes"]))
                for name, file in document["files"].items()
            },
            comparison=Comparison(**document["comparison"]),
            source_bytes=int(document["source_bytes"]),
            bytes=int(document["bytes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExportDamaged(f"{MANIFEST} of {folder.name!r} lacks a part of an export") from error


def _digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        file.name: (_sha256(file), file.stat().st_size)
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name != MANIFEST
    }


def _weight_digests(source: Path) -> dict[str, str]:
    folder = source.expanduser()
    return {file.name: _sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None
