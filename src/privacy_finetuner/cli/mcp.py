"""`privacy-finetuner mcp`: the product's actions as tools of an assistant on this machine."""

from __future__ import annotations

from typing import Final

from privacy_finetuner.cli import remote
from privacy_finetuner.cli.remote import ProfileName, Url

EPILOG: Final = (
    "Example, in the configuration of an assistant:\n\n"
    '{"mcpServers": {"privacy": {"command": "privacy-finetuner", "args": ["mcp"]}}}\n\n'
    "A running service offers the same tools at https://HOST/mcp, with a token or an API key as "
    "Bearer."
)


def mcp(*, url: Url = None, profile: ProfileName = None) -> None:
    """Offer training, reports, budget and redaction as MCP tools on standard input and output.

    The assistant acts as you: with your login (see **login**) or API key, within your scopes, and
    everything it does is in the audit trail under your name. It never sees a token or a key.
    """
    with remote.failures_reported(as_json=False):
        client = remote.opened_async(url, profile)
        from privacy_finetuner.mcp_server import serve_stdio  # noqa: PLC0415 -- half a second

    serve_stdio(client)
