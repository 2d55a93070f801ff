"""The command `federated-dp-llm`."""
