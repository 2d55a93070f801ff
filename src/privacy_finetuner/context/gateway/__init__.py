"""An MCP gateway that redacts in both directions and fails closed."""
