"""ContextGuard, its operators and formats, and the MCP gateway."""
