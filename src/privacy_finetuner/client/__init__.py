"""The SDK: the service from Python, in lines one would write by hand."""
