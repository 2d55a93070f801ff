"""A server of files over standard streams, as an agent would be given one: `... FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

ROOT = Path(sys.argv[1]).resolve()
server = MCPServer("filesystem")


def inside(name: str) -> Path:
    path = (ROOT / name).resolve()
    if not path.is_relative_to(ROOT):
        raise ValueError(f"{name} is outside of {ROOT}")
    return path


@server.tool()
def read_file(path: str) -> str:
    """Read a text file."""
    return inside(path).read_text()


@server.tool()
def write_file(path: str, content: str) -> str:
    """Write a text file."""
    inside(path).write_text(content)
    return f"wrote {len(content)} characters to {path}"


@server.tool()
def list_directory() -> list[str]:
    """List the files."""
    return sorted(path.name for path in ROOT.iterdir())


@server.tool()
def search_files(text: str) -> list[dict[str, str]]:
    """Find lines."""
    return [
        {"file": path.name, "line": line}
        for path in sorted(ROOT.iterdir())
        for line in path.read_text().splitlines()
        if text in line
    ]


@server.resource("file:///{name}")
def file(name: str) -> str:
    """A file."""
    return inside(name).read_text()


if __name__ == "__main__":
    server.run("stdio")
