"""Traces: API -> job -> training steps, sent as OTLP over HTTP where an address is configured.

Off, `span` is one comparison and no import: OpenTelemetry is loaded by `install`. Attributes are
numbers, truth values and identifiers under the names of `ATTRIBUTES`; any other text is left out,
and an error is recorded by its type, never by its message.

The context travels as W3C Trace Context: in the header `traceparent` between services, in the
variable TRACEPARENT to a child process and in a job's row, so that the steps of a job that waited
an hour hang on the request that submitted it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from privacy_core.errors import InvalidParameter

VARIABLE: Final = "TRACEPARENT"
HEADER: Final = "traceparent"
_PARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_WORD: Final = re.compile(r"[A-Za-z0-9/._:{}-]{1,128}")
ATTRIBUTES: Final = frozenset(
    {
        *("job_id", "tenant", "request_id", "worker", "endpoint_id", "message_id"),
        *("method", "route", "status", "state", "code", "event_kind", "sink", "outcome"),
        *("step", "steps", "epoch", "attempt", "epsilon", "priority", "count"),
    }
)


class Span(Protocol):
    """What is being done."""

    def note(self, **attributes: Any) -> None:
        """Add attributes of `ATTRIBUTES`; others are left out."""


class OpenSpan(Span, Protocol):
    """What has begun and ends when somebody says so."""

    def end(self) -> None:
        """Say that it is over; one that nobody ends is not recorded."""


class _Nothing:
    """A span when tracing is off."""

    __slots__ = ()

    def note(self, **attributes: Any) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


_NOTHING: Final = _Nothing()
_OFF: Final[AbstractContextManager[Span]] = nullcontext(_NOTHING)
_Opens = Callable[[str, Mapping[str, Any], Any], AbstractContextManager[Span]]


@dataclass(slots=True)
class _Here:
    """What `install` put in place; one for the process, as OpenTelemetry's context is."""

    opens: _Opens | None = None
    begins: Callable[[str], OpenSpan] | None = None
    carries: Callable[[], str] | None = None
    adopts: Callable[[str], AbstractContextManager[None]] | None = None


_here: Final = _Here()
_kept: Final[list[AbstractContextManager[None]]] = []  # for ever: letting go would detach


def span(name: str, **attributes: Any) -> AbstractContextManager[Span]:
    """Record what is done inside a `with` block; the name is a literal, as `job.run`."""
    if _here.opens is None:
        return _OFF
    return _here.opens(name, attributes, None)


def begun(name: str) -> OpenSpan:
    """Begin a span below the current one that does not follow a `with` block."""
    return _NOTHING if _here.begins is None else _here.begins(name)


def incoming(name: str, headers: Mapping[str, str], **attributes: Any) -> Any:
    """As `span`, hung on what the caller's header `traceparent` says, if it says anything."""
    if _here.opens is None:
        return _OFF
    return _here.opens(name, attributes, _parent(headers.get(HEADER, "")))


def carried() -> dict[str, str]:
    """The variable that hands the current span to a child process; empty when off."""
    text = _here.carries() if _here.carries is not None else ""
    return {VARIABLE: text} if text else {}


def adopted(environment: Mapping[str, str]) -> AbstractContextManager[None]:
    """Hang what is done inside on the span that somebody handed over."""
    parent = _parent(environment.get(VARIABLE, ""))
    if _here.adopts is None or not parent:
        return nullcontext()
    return _here.adopts(parent)


def adopt(environment: Mapping[str, str]) -> None:
    """As `adopted`, for the rest of the process."""
    _kept.append(adopted(environment))
    _kept[-1].__enter__()


def current_ids() -> Mapping[str, str]:
    """`trace_id` and `span_id` of the current span, for log lines; empty when off."""
    text = _here.carries() if _here.carries is not None else ""
    if not text:
        return {}
    _, trace, inner, _ = text.split("-")
    return {"trace_id": trace, "span_id": inner}


class Tracing:
    """What `install` started; close it to send what waits."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def close(self, wait_s: float = 5.0) -> None:
        """Turn tracing off and send what waits; what is not sent by then is lost.

        The SDK waits for a collector that hangs for as long as it hangs, whatever it is told, so
        it is waited for from outside, by a thread that ends with the process.
        """
        _here.opens = _here.begins = _here.carries = _here.adopts = None
        sending = threading.Thread(target=self._stop, name="last spans", daemon=True)
        sending.start()
        sending.join(wait_s)


def install(
    endpoint: str | None,
    *,
    service: str = "privacy-finetuner",
    version: str = "",
    ratio: float = 1.0,
    exporter: Any = None,
) -> Tracing:
    """Send spans to an OTLP collector.

    Guarantee: a collector that is slow or away costs no request more than a place in a queue of
    2,048 spans; what does not fit is dropped.

    Args:
        endpoint: of the collector (`http://otel:4318`); None: tracing stays off.
        service: name under which the spans appear.
        version: of the product.
        ratio: the share of traces that are recorded, in [0, 1], decided where a trace begins.
        exporter: one of your own, in place of OTLP over HTTP.

    Raises:
        InvalidParameter: the ratio is outside [0, 1], or the endpoint is no http(s) address.
    """
    if not 0.0 <= ratio <= 1.0:
        raise InvalidParameter("ratio", found=ratio, expected="a number in [0, 1]")
    if endpoint is None and exporter is None:
        return Tracing(lambda: None)
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise InvalidParameter(
            "endpoint", found=f"{len(endpoint)} characters", expected="http:// or https://"
        )
    return _Installation(endpoint, service, version, ratio, exporter).start()


class _Installation:
    """OpenTelemetry, imported only now."""

    def __init__(
        self, endpoint: str | None, service: str, version: str, ratio: float, exporter: Any
    ) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  off costs no import
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import (  # noqa: PLC0415
            ParentBased,
            TraceIdRatioBased,
        )

        resource = Resource({"service.name": service, "service.version": version})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=resource,
            span_limits=SpanLimits(max_attributes=32, max_attribute_length=128),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter if exporter is not None else _otlp(endpoint))
        )
        self._tracer = self._provider.get_tracer("privacy_finetuner")

    def start(self) -> Tracing:
        _here.opens, _here.begins = self._opens, self._begins
        _here.carries, _here.adopts = _carries, _adopts
        return Tracing(self._stop)

    def _stop(self) -> None:
        self._provider.shutdown()  # flushes

    def _begins(self, name: str) -> OpenSpan:
        return _Recorded(self._tracer.start_span(name))

    @contextmanager
    def _opens(self, name: str, attributes: Mapping[str, Any], parent: Any) -> Iterator[Span]:
        context = _context_of(parent) if parent else None
        with self._tracer.start_as_current_span(
            name, context=context, record_exception=False, set_status_on_exception=False
        ) as inner:
            recorded = _Recorded(inner)
            recorded.note(**attributes)
            try:
                yield recorded
            except BaseException as error:
                recorded.failed(error)
                raise


class _Recorded:
    """A span of OpenTelemetry that takes only what may be known."""

    __slots__ = ("_span",)

    def __init__(self, inner: Any) -> None:
        self._span = inner

    def note(self, **attributes: Any) -> None:
        for key, value in attributes.items():
            if key in ATTRIBUTES and _is_plain(value):
                self._span.set_attribute(f"privacy_finetuner.{key}", value)

    def end(self) -> None:
        self._span.end()

    def failed(self, error: BaseException) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        self._span.set_attribute("error.type", type(error).__qualname__)
        self._span.set_status(Status(StatusCode.ERROR))


def _is_plain(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return True
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _parent(text: str) -> str:
    return text if _PARENT.fullmatch(text) else ""


def _otlp(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    return OTLPSpanExporter(endpoint=f"{str(endpoint).rstrip('/')}/v1/traces", timeout=5)


def _context_of(parent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator().extract({HEADER: parent})


def _carries() -> str:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER, "")


@contextmanager
def _adopts(parent: str) -> Iterator[None]:
    from opentelemetry import context  # noqa: PLC0415

    token = context.attach(_context_of(parent))
    try:
        yield
    finally:
        context.detach(token)
