"""The forms that a model can be written in.

    safetensors   read by transformers and vLLM; quantized weights in compressed-tensors'
                  `pack-quantized` layout (eight or four bits are eight or four on the disk)
    onnx          read by ONNX Runtime; quantized weights as its `MatMulNBits` operator

Quantized are the weights of linear layers, symmetric, rounded to nearest, with one scale for each
block of 32 inputs; activations, embeddings and the output layer of a language model stay as they
are. Nothing is calibrated, so no record is looked at.
"""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from typing import Final

from privacy_finetuner.errors import ConfigurationError

_INSTALL: Final = "pip install 'privacy-finetuner[export]'; nothing was written"


class Format(StrEnum):
    """What programs read it."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"


class Quantization(StrEnum):
    """In how many bits the weights are kept."""

    NONE = "none"
    INT8 = "int8"
    INT4 = "int4"


LEAST_AGREEMENT: Final = {Quantization.NONE: 0.999, Quantization.INT8: 0.95, Quantization.INT4: 0.8}
"""Below this share an export is rejected, where nothing else is asked. A choice, not a law."""


def require_libraries(form: Format, quantization: Quantization) -> None:
    """Refuse a form whose libraries are not installed.

    Raises:
        ConfigurationError: with what to install.
    """
    needs = {
        Format.ONNX: ("onnx", "onnxscript", "onnxruntime"),
        Format.SAFETENSORS: () if quantization is Quantization.NONE else ("compressed_tensors",),
    }[form]
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{form} with {quantization} needs {', '.join(missing)}, not installed: {_INSTALL}"
        )
