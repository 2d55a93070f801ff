"""The plain gateway: OpenAI-compatible requests, forwarded at a durable price."""
