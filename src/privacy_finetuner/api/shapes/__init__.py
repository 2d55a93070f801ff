"""The JSON of the API, shape by shape, with examples."""
