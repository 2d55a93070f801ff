"""The gateway's section of a configuration, as values.

    gateway:
      unit: tokens
      strategy: least_loaded
      backends:
        - {name: gpu-1, url: "http://10.0.0.11:8000", models: [llama-3.1-8b], slots: 96}
        - {name: gpu-2, url: "https://gpu-2.local", models: [llama-3.1-8b], key_file: gpu-2.key}

Unknown names are refused. A backend's key stands in a file of its own, never here.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from federated_dp_llm.gateway.app import GatewayPolicy
from federated_dp_llm.gateway.backends import Backend, Strategy
from federated_dp_llm.gateway.charges import Unit
from federated_dp_llm.gateway.completions import CompletionTerms
from federated_dp_llm.gateway.connection import Limits, Timeouts
from privacy_core.errors import InvalidParameter
from privacy_runtime.secret import Secret


class BackendOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backend; see `Backend`.

    Attributes:
        key_file: holds what the backend wants to see as a bearer token.
        ca_file: certificates that it is checked against; empty: the system's.
        certificate_file: ours, to show it.
        certificate_key_file: its key.
    """

    name: str
    url: str
    models: list[str]
    slots: int = 64
    speed: float | None = None
    key_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    certificate_key_file: str = ""


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section. What is not given has the default of `GatewayPolicy` and its parts."""

    backends: list[BackendOptions]
    unit: Unit = Unit.TOKENS
    strategy: Strategy = Strategy.LEAST_LOADED
    tokens: int = 1024
    tokens_most: int = 32_768
    choices_most: int = 16
    body_bytes: int = 1024 * 1024
    attempts: int = 2
    wait_s: float = 30.0
    waiting_most: int = 1000
    connect_s: float = 3.0
    header_s: float = 120.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> GatewayOptions:
        """Read a section.

        Raises:
            InvalidParameter: which field, and what is expected there.
        """
        try:
            return msgspec.convert(dict(section), cls)
        except msgspec.ValidationError as error:
            raise InvalidParameter("gateway", found="another form", expected=str(error)) from None

    def policy(self) -> GatewayPolicy:
        """The numbers.

        Raises:
            InvalidParameter: one that cannot be.
        """
        times = (self.connect_s, self.header_s, self.first_byte_s, self.idle_s, self.total_s)
        counts = (self.tokens, self.tokens_most, self.choices_most, self.attempts, self.body_bytes)
        if min(*times, self.wait_s) <= 0 or min(counts) < 1 or self.waiting_most < 0:
            raise InvalidParameter(
                "gateway", found="a number out of range", expected="times above 0, counts from 1 on"
            )
        return GatewayPolicy(
            unit=self.unit,
            terms=CompletionTerms(
                tokens=self.tokens, tokens_most=self.tokens_most, choices_most=self.choices_most
            ),
            body_bytes=self.body_bytes,
            attempts=self.attempts,
            wait_s=self.wait_s,
            waiting_most=self.waiting_most,
            strategy=self.strategy,
            timeouts=Timeouts(
                connect_s=self.connect_s,
                header_s=self.header_s,
                first_byte_s=self.first_byte_s,
                idle_s=self.idle_s,
                total_s=self.total_s,
            ),
            limits=Limits(),
        )

    def values(self) -> list[Backend]:
        """The backends, with their keys and certificates read.

        Raises:
            InvalidParameter: a backend that cannot be, or a file that cannot be read.
        """
        return [_backend(one) for one in self.backends]


def _backend(one: BackendOptions) -> Backend:
    try:
        key = Secret(Path(one.key_file).read_text().strip()) if one.key_file else None
        tls = _tls(one)
    except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
        raise InvalidParameter(
            f"gateway.backends.{one.name}", found=type(error).__name__, expected="readable files"
        ) from None
    return Backend(
        name=one.name,
        url=one.url,
        models=tuple(one.models),
        slots=one.slots,
        speed=one.speed,
        key=key,
        tls=tls,
    )


def _tls(one: BackendOptions) -> ssl.SSLContext | None:
    if not one.url.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=one.ca_file or None)
    if one.certificate_file:
        context.load_cert_chain(one.certificate_file, one.certificate_key_file or None)
    return context
