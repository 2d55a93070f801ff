"""The commented policy that `privacy-finetuner gateway init` writes. A test loads it."""

from typing import Final

EXAMPLE: Final = """\
# What the gateway lets pass. `privacy-finetuner gateway check` says whether it can be used.
# Everything that is left out has the safe value: nothing is revealed to anybody.
version: 1

# Pins of tools and the audit trail: a hash-chained journal beside this file.
journal: gateway-journal.db

# A tool that was never seen: `pin` it as it is now, or `withhold` it until it is approved.
# A tool that changed afterwards is always withheld until `privacy-finetuner gateway approve`.
new_tools: pin

redaction:
  level: medium           # low | medium | high: see docs/redaction.md
  names: true             # look for people, places and organisations
  # keep: [URL]           # entity types that everybody may see
  raw_values: tokenise    # a value in clear on its way to an egress tool: tokenise | refuse
  binary: withhold        # images, audio, other bytes: withhold | pass

# limits:                 # beyond them a message is refused
#   message_bytes: 1000000
#   detector_s: 5
#   calls_per_minute: 600

servers:
  # The name is in the names of its tools (`notes__search`) and resources (`mcp://notes/...`).
  notes:
    command: [python, -m, your_notes_server]
    # pass_env: [NOTES_TOKEN]     # variables it inherits besides PATH, HOME, LANG, ...
    zone: internal                # gets tokens, never values
    tools:
      allow: ["*"]                # patterns of the tools that exist for the client

  # mail:
  #   url: https://mail.example/mcp
  #   bearer_env: MAIL_TOKEN      # the gateway's own token; the client's is never passed on
  #   zone: egress
  #   tools:
  #     allow: [send_mail, search]
  #     rules:
  #       send_mail: {zone: trusted, reveal: [EMAIL, PERSON]}   # real values of these types

# For `--http` on an address that others can reach, the gateway needs an OAuth issuer:
# auth:
#   issuer: https://login.example
#   resource: https://gateway.example/mcp   # the audience that tokens must name
#   jwks_url: https://login.example/jwks.json
#   scopes: [mcp]
"""
