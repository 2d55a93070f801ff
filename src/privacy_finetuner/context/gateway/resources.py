"""Records of a data set from an MCP resource, read through the gateway and redacted one by one.

`mcp://SERVER/ADDRESS` names a server of a policy and the server's own address of the resource. The
policy is the file that `PRIVACY_FINETUNER_GATEWAY_POLICY` names, or `gateway.yaml` in the working
folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from anyio.from_thread import start_blocking_portal
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import TextResourceContents

from privacy_core.errors import PrivacyError
from privacy_finetuner.context.gateway.crossing import within
from privacy_finetuner.context.gateway.desk import RESOURCE
from privacy_finetuner.context.gateway.errors import GatewayRefused, MessageRefused, PolicyError
from privacy_finetuner.context.gateway.gateway import Gateway
from privacy_finetuner.context.gateway.passage import Passage
from privacy_finetuner.context.gateway.policy import Policy
from privacy_finetuner.context.gateway.policy_file import load_policy
from privacy_finetuner.context.gateway.protection import Protector
from privacy_finetuner.context.gateway.protectors import Unread, record_protectors
from privacy_finetuner.context.gateway.record_texts import records_of, shape_of
from privacy_finetuner.context.gateway.states import without_server
from privacy_finetuner.context.gateway.trail import Direction, Record
from privacy_finetuner.context.gateway.upstream import Targets
from privacy_finetuner.context.gateway.wiring import journal_of
from privacy_finetuner.errors import DatasetError
from privacy_runtime.world import SystemEntropy

POLICY_VARIABLE: Final = "PRIVACY_FINETUNER_GATEWAY_POLICY"
POLICY_NAME: Final = "gateway.yaml"
RESOURCE_BYTES: Final = 2**30
_NOTHING: Final = "nothing was read or spent"
_SESSION: Final = "training"


def read_records(
    address: str,
    *,
    policy: Policy | Path | str | None = None,
    environment: Mapping[str, str] | None = None,
    targets: Targets | None = None,
) -> list[dict[str, Any]]:
    """Read the records behind an address, each redacted as if it were alone.

    How a text becomes records: `record_texts`.

    Guarantee: a record that is returned depends on one record of the resource and on this read's
    key, on nothing else: what is learned from one (a number that stood beside `ssn`) replaces
    nothing in another. So two resources that differ in one record differ in that one afterwards,
    which is what differential privacy of the training needs. Every text has passed the redaction of
    the policy; the audit trail says what it replaced. Tokens are not revealed to training; equal
    values of one read have equal tokens, so that a field of users still tells them apart.

    Args:
        address: `mcp://SERVER/ADDRESS`.
        policy: or its file; default: see the module.
        environment: where the policy's file may be named.
        targets: how servers are reached; for tests.

    Raises:
        DatasetError: no policy, no such server, or nothing that can be read; nothing was spent.
    """
    named = without_server(address)
    if named is None:
        raise DatasetError(
            f"{address!r} names no server; expected mcp://SERVER/ADDRESS; {_NOTHING}"
        )
    found = policy if isinstance(policy, Policy) else _policy(policy, environment)
    if found.server(named[0]) is None:
        names = ", ".join(server.name for server in found.servers) or "none"
        raise DatasetError(
            f"the gateway's policy has no server {named[0]!r} (it has: {names}); {_NOTHING}"
        )
    only = replace(
        found,
        servers=tuple(server for server in found.servers if server.name == named[0]),
        # Records are what is examined one by one; the resource as a whole may be a data set's size.
        limits=replace(found.limits, message_bytes=max(found.limits.message_bytes, RESOURCE_BYTES)),
    )
    try:
        # A portal: the caller may be inside of an event loop, as in a notebook.
        with (
            journal_of(only) as journal,
            record_protectors(only, entropy=SystemEntropy()) as protector,
            start_blocking_portal() as portal,
        ):
            gateway = Gateway(only, lambda _session: Unread(), journal, targets=targets)
            return portal.call(_read, gateway, address, protector)
    except DatasetError:
        raise
    except PrivacyError as error:
        raise DatasetError(f"{address} was not read: {error}; {_NOTHING}") from error


async def _read(
    gateway: Gateway, address: str, protector: Callable[[], Protector]
) -> list[dict[str, Any]]:
    """Read the resource as it is, into records; then redact them one by one."""
    failure: PrivacyError | None = None
    async with gateway.running() as server, Client(server, cache=None) as client:
        try:
            records = await _fetched(client, address, gateway, protector)
            return [
                await _redacted(record, f"record {number} of {address}", gateway, protector())
                for number, record in enumerate(records, 1)
            ]
        except PrivacyError as error:
            failure = error  # raised below: a task group would wrap it
    raise failure


async def _fetched(
    client: Client, address: str, gateway: Gateway, protector: Callable[[], Protector]
) -> list[dict[str, Any]]:
    """The records of a resource as they are."""
    try:
        result = await client.read_resource(address)
    except MCPError as error:
        passage = Passage(protector(), gateway.policy.redaction, gateway.policy.limits)
        refusal = passage.text_to_model(error.message)
    else:
        texts = [one for one in result.contents if isinstance(one, TextResourceContents)]
        if len(texts) < len(result.contents) or not texts:
            raise GatewayRefused("the resource is not text; only text can be redacted")
        return [
            record
            for one in texts
            for record in records_of(
                one.text, shape_of(str(one.uri), one.mime_type or ""), name=address
            )
        ]
    raise GatewayRefused(refusal)


async def _redacted(
    record: dict[str, Any], where: str, gateway: Gateway, protector: Protector
) -> dict[str, Any]:
    """One record, redacted by a protector that has seen no other, and what was done written down.

    Raises:
        DatasetError: it could not be examined, or the journal refused.
    """
    limits = gateway.policy.limits
    passage = Passage(protector, gateway.policy.redaction, limits)
    try:
        changed = await within(limits.detector_s, lambda: passage.record(record))
        if passage.tally.items:
            await gateway.trail.record(
                Record(
                    session=_SESSION,
                    server=gateway.policy.servers[0].name,
                    tool=RESOURCE,
                    direction=Direction.TO_MODEL,
                    tally=passage.tally,
                )
            )
    except MessageRefused as refusal:
        raise DatasetError(f"{where} was not read: {refusal}; {_NOTHING}") from refusal
    return changed


def _policy(path: Path | str | None, environment: Mapping[str, str] | None) -> Policy:
    environment = os.environ if environment is None else environment
    where = Path(path or environment.get(POLICY_VARIABLE) or POLICY_NAME)
    if not where.is_file():
        raise DatasetError(
            f"the data set is at an mcp:// address, and there is no gateway policy at {where}: it "
            f"says how servers are reached and what is redacted. Make one with `privacy-finetuner "
            f"gateway init`, or name it in {POLICY_VARIABLE}; {_NOTHING}"
        )
    try:
        return load_policy(where)
    except PolicyError as error:
        raise DatasetError(str(error)) from error
