"""Ways out: a signed webhook, a Slack incoming webhook, an e-mail. Each says how an attempt ended.

A sink raises nothing for what a receiver does: what happened is an `Outcome`.
"""
