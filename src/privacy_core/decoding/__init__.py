"""Private answers as text: the next token over many records, at a price."""
