"""The mathematics and the decisions of privacy, pure: no clock, no disk, no network, no torch."""
