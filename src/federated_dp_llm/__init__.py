"""Answers across institutions under privacy budgets. So far: the budgets (`core`)."""
