"""How router and nodes talk: messages, clients, signed terms."""
