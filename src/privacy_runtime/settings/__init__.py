"""Settings from YAML and the environment: typed, complete, and every fault at once."""
