"""Private releases of numbers: each carries its sensitivity and the event that prices it."""
