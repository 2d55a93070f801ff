"""The client for programs that do many things at once. `blocking` is generated from this room."""
