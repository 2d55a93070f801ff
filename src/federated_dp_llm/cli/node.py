"""`federated-dp-llm node`: one institution's records and model, behind a socket for the router."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_runtime import logs, tracing

if TYPE_CHECKING:
    from federated_dp_llm.federation.channel import Channel
    from federated_dp_llm.federation.masks import Masks
    from federated_dp_llm.node.agent import NodeAgent
    from federated_dp_llm.node.backend import Backend
    from federated_dp_llm.node.prompts import PromptForm
    from privacy_runtime.signing import TrustedKeys

EPILOG: Final = (
    "Example: federated-dp-llm node --model ./model --records records.jsonl --name north "
    "--router-key router-key.pem.pub\n\n"
    'A record is a line of JSON: {"patient": "p-17", "text": "..."}. Keep --home with the '
    "records: it holds what every patient has paid, and deleting it gives the promise anew."
)
NO_ROUTER_KEY: Final = (
    "give --router-key FILE: the public half of the key that the router signs its terms with. The "
    "router makes it at its first start, as router-key.pem.pub in its home; copy that file here, "
    "and compare its key_id with the router's administrator by another way. Without it anybody "
    "could spend the patients' budget; nothing was started"
)
_BAD_INPUT: Final = 2
_NETWORK: Final = "Network"
_PROMISE: Final = "What is promised"
_MODEL: Final = "Model and records"
_MASKS: Final = "Masks"
_SERVER: Final = "A model behind a server"


def node(  # noqa: PLR0913 -- one parameter an option
    *,
    model: Annotated[
        Path,
        typer.Option(
            help="Folder of a causal language model: config.json, tokenizer.json, safetensors.",
            rich_help_panel=_MODEL,
        ),
    ],
    records: Annotated[
        Path, typer.Option(help="JSON Lines: patient, text, cohort.", rich_help_panel=_MODEL)
    ],
    name: Annotated[str, typer.Option(help="Of this node in the federation.")] = "node",
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of its ledger and audit. Default: ./federated-node-NAME."),
    ] = None,
    router_key: Annotated[
        Path | None, typer.Option(help="The router's public key: its router-key.pem.pub.")
    ] = None,
    slots: Annotated[
        int, typer.Option(min=1, help="Records offered to one answer; empty ones cost as much.")
    ] = 32,
    patient_epsilon: Annotated[
        float,
        typer.Option(
            help="What each patient is promised, over everything that is ever asked of this node.",
            rich_help_panel=_PROMISE,
        ),
    ] = 10.0,
    delta: Annotated[
        float,
        typer.Option(help="Of the promise: below 1 / patients.", rich_help_panel=_PROMISE),
    ] = 1e-6,
    selection: Annotated[
        str,
        typer.Option(
            help="'matching' searches the records; 'listed' takes the first of the cohort, "
            "whatever is in their records, and allows the cheaper 'null' adjacency.",
            rich_help_panel=_PROMISE,
        ),
    ] = "matching",
    match: Annotated[
        float,
        typer.Option(
            help="Share of a prompt's words that a record must hold. Who matches is charged.",
            rich_help_panel=_PROMISE,
        ),
    ] = 0.3,
    cohort: Annotated[
        list[str] | None,
        typer.Option(
            help="A consent cohort that may be asked for. Default: all that the file names.",
            rich_help_panel=_PROMISE,
        ),
    ] = None,
    specialization: Annotated[
        list[str] | None, typer.Option(help="What it says that it is good at.")
    ] = None,
    record_tokens: Annotated[
        int | None,
        typer.Option(
            help="Width of a record; longer ones are cut. Default: half of the context.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    form: Annotated[
        Path | None,
        typer.Option(
            help="JSON: how record, prompt and answer stand behind one another (record, frame, "
            "head, tail, option). The same at every node.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where the model computes: cpu, cuda.", rich_help_panel=_MODEL)
    ] = "cpu",
    backend: Annotated[
        str | None,
        typer.Option(
            help="Inference server that computes in the place of --model, of which tokenizer.json "
            "and config.json are read then. It sees records: it must be this institution's.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    backend_model: Annotated[
        str | None,
        typer.Option(help="The server's name of the model.", rich_help_panel=_SERVER),
    ] = None,
    backend_kind: Annotated[
        str,
        typer.Option(
            help="openai (its 20 likeliest tokens alone), vllm, sglang.", rich_help_panel=_SERVER
        ),
    ] = "openai",
    backend_key: Annotated[
        Path | None,
        typer.Option(help="File with the server's key.", rich_help_panel=_SERVER),
    ] = None,
    backend_parallel: Annotated[
        int,
        typer.Option(
            min=1,
            help="Slots that are asked at once. Above 1 only for servers whose results do not "
            "depend on who else is computed: see docs/node.md.",
            rich_help_panel=_SERVER,
        ),
    ] = 1,
    host: Annotated[
        str, typer.Option(help="Address to listen at.", rich_help_panel=_NETWORK)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Port.", rich_help_panel=_NETWORK)
    ] = 8443,
    cert: Annotated[
        Path | None, typer.Option(help="Certificate, in PEM.", rich_help_panel=_NETWORK)
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its key, in PEM.", rich_help_panel=_NETWORK)
    ] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(help="Authority of the router's certificate.", rich_help_panel=_NETWORK),
    ] = None,
    require_pq: Annotated[
        bool,
        typer.Option(
            "--require-pq",
            help="Do not hear a router without X25519MLKEM768. With --cert.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    mask_key: Annotated[
        Path | None,
        typer.Option(
            help="This node's key of masks; made where it is missing, and its public half shown.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    mask_peers: Annotated[
        Path | None,
        typer.Option(
            help="JSON of all nodes' public mask keys by name. With masks the router sees the "
            "group's sums only, and needs every node of it.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    traces: Annotated[
        str | None,
        typer.Option(
            help="Collector of OpenTelemetry spans, OTLP over HTTP; they hold no text.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Load everything, say what it is, and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what was started as one JSON document.")
    ] = False,
) -> None:
    """Answer a router from private records. No record leaves this machine.

    The router sends a prompt and drafts; this node answers with sums of clipped differences over
    its slots, and charges every patient who matched before anything is computed from their record.
    """
    from federated_dp_llm.node import home as homes  # noqa: PLC0415 -- half a second
    from federated_dp_llm.node.policy import NodePolicy  # noqa: PLC0415
    from federated_dp_llm.node.prompts import PromptForm  # noqa: PLC0415
    from federated_dp_llm.node.records import Records  # noqa: PLC0415
    from federated_dp_llm.node.retrieval import Retrieval  # noqa: PLC0415
    from federated_dp_llm.node.server import make_app, require_private, serve_node  # noqa: PLC0415

    try:
        # What costs nothing to refuse is refused before a model is loaded.
        tls = _tls(cert, key, client_ca, require_pq=require_pq)
        require_private(host, tls)
        trusted = _trusted(router_key)
        promise = homes.Promise(epsilon=patient_epsilon, delta=delta)
        read = Records.read(records)
        policy = NodePolicy(
            node_id=name,
            slots=slots,
            cohorts=tuple(cohort) if cohort else read.cohorts,
            specializations=tuple(specialization or ()),
            selection=selection,  # type: ignore[arg-type]  # checked there
        )
        amount = promise.nano_rho
        masks = _masks(name, mask_key, mask_peers)
        prompts = PromptForm.read(form) if form else PromptForm()

        computing = (
            _model(model, prompts, device, record_tokens)
            if backend is None
            else _served(
                backend, backend_model, model,
                form=prompts, dialect=backend_kind, record_tokens=record_tokens,
                key=backend_key, parallel=backend_parallel,
            )
        )  # fmt: skip
        agent = homes.open_agent(
            home or Path(f"federated-node-{name}"),
            policy,
            computing,
            Retrieval(read, match=match),
            trusted=trusted,
            promise=promise,
            masks=masks,
        )
        started = _started(agent, policy, f"{host}:{port}", amount, trusted)
        _say(started, as_json=as_json)
        if check:
            asyncio.run(agent.aclose())
        else:
            spans = tracing.install(traces, service=f"federated-node-{name}")
            with closing(spans), logs.install(context=tracing.current_ids):
                serve_node(make_app(agent, channel=tls), host=host, port=port, tls=tls)
    except PrivacyError as error:
        _fail(error, as_json=as_json)


def _model(folder: Path, form: PromptForm, device: str, record_tokens: int | None) -> Backend:
    from federated_dp_llm.node.hf import HfModel  # noqa: PLC0415 -- torch: seconds

    return HfModel.load(folder, form=form, device=device, record_tokens=record_tokens)


def _served(
    url: str, name: str | None, folder: Path, *, key: Path | None, **options: Any
) -> Backend:
    from federated_dp_llm.node.served import ServedModel  # noqa: PLC0415
    from privacy_runtime.secret import Secret  # noqa: PLC0415
    from privacy_runtime.settings.secrets import read_secret  # noqa: PLC0415

    if name is None:
        raise InvalidParameter("backend_model", found=None, expected="the server's name of it")
    secret = None if key is None else Secret(read_secret(key))
    return ServedModel.load(url, name, folder, key=secret, **options)


def _started(
    agent: NodeAgent, policy: Any, address: str, promise: int, trusted: TrustedKeys
) -> dict[str, Any]:
    """What the operator is told; nothing of it depends on a record."""
    backend = agent.backend
    return {
        "node": policy.node_id,
        "address": address,
        "slots": policy.slots,
        "selection": policy.selection,
        "cohorts": list(policy.cohorts),
        "promise_nano_rho": promise,
        "weights": backend.weights,
        "tokenizer": backend.tokenizer,
        "context_length": backend.context_length,
        "router_keys": [known.key_id for known in trusted.keys],
    }


def _say(started: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(started) + "\n")
    else:
        sys.stdout.write(
            f"node {started['node']} at {started['address']}: {started['slots']} slots, "
            f"{started['selection']} records of {', '.join(started['cohorts'])}\n"
            f"each patient is promised {started['promise_nano_rho']} nano-rho, ever\n"
            f"trusts the router's key {', '.join(started['router_keys'])}\n"
            f"weights {started['weights']}\ntokenizer {started['tokenizer']}\n"
        )
    sys.stdout.flush()


def _fail(error: PrivacyError, *, as_json: bool) -> None:
    if as_json:
        document = {"error": {"code": error.code, "message": str(error)}}
        sys.stdout.write(json.dumps(document) + "\n")
    sys.stderr.write(f"error: {error}\n")
    raise typer.Exit(_BAD_INPUT) from error


def _trusted(path: Path | None) -> TrustedKeys:
    """The router's key: a `.pub` file, or a file of trusted keys where it is about to change."""
    from privacy_runtime.signing import PublicKey, TrustedKeys, parse_json  # noqa: PLC0415

    if path is None:
        raise _NoRouterKey(NO_ROUTER_KEY)
    try:
        content = path.read_bytes()
    except OSError:
        raise _NoRouterKey(f"{path} cannot be read; {NO_ROUTER_KEY}") from None
    document = parse_json(content)
    if isinstance(document, dict) and "keys" in document:
        return TrustedKeys.read(path)
    return TrustedKeys([PublicKey.from_json(document)])


class _NoRouterKey(PrivacyError):
    """No key of a router to trust; nothing was started."""

    code = "no_router_key"


def _tls(
    cert: Path | None, key: Path | None, client_ca: Path | None, *, require_pq: bool
) -> Channel | None:
    from federated_dp_llm.node.server import NodeTls  # noqa: PLC0415

    if cert is None and key is None and client_ca is None:
        if require_pq:
            raise InvalidParameter(
                "require_pq", found="no TLS", expected="--cert, --key and --client-ca too"
            )
        return None
    if cert is None or key is None or client_ca is None:
        raise InvalidParameter(
            "cert", found="a part of TLS", expected="--cert, --key and --client-ca together"
        )
    return NodeTls(certificate=cert, key=key, client_ca=client_ca, require_pq=require_pq).context()


def _masks(name: str, key: Path | None, peers: Path | None) -> Masks | None:
    from federated_dp_llm.federation.masks import create_mask_key, read_masks  # noqa: PLC0415
    from privacy_runtime.world import SystemEntropy  # noqa: PLC0415

    if key is not None and not key.exists():
        public = create_mask_key(key, SystemEntropy())
        sys.stderr.write(f"made {key}; its public half, for the other nodes: {public}\n")
    if key is None and peers is None:
        return None
    if key is None or peers is None:
        raise InvalidParameter(
            "masks", found="one of two files", expected="--mask-key and --mask-peers together"
        )
    return read_masks(name, key, peers)
