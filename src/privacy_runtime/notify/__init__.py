"""Messages to the outside: signed webhooks and other sinks behind one durable outbox."""
