"""The private training step and everything it stands on."""
