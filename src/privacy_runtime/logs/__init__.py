"""Structured logs: JSON lines with correlation identifiers, and nothing sensitive in them.

::

    log = logs.logger(__name__)
    with logs.bound(request_id=request_id, tenant=principal.tenant):
        log.info("job claimed", job_id=job.id, attempt=2)

The rule is about where a text comes from, not only what it looks like. A text that stands in the
source code is public and comes out. A text that was made while the program ran is data: it comes
out under a key of the vocabulary, in that key's form and redacted, or as `<text of 53 characters>`.
What patterns cannot recognise, a sentence of a record, is so kept in as well (see `vocabulary`).

======================================================  ==========================================
logged like this                                        comes out as
======================================================  ==========================================
`log.info("job claimed", attempt=2)`                    as it is
`log.info("job claimed", job_id=job.id)`                as it is: a key of the vocabulary, its form
`log.info(f"prompt {prompt}")`                          `<text of 60 characters>`, with the line
                                                        of code
`log.info("asked", prompt=prompt)`, `password=...`      `<text of 53 characters>`
`logging.getLogger(...).info("got %s", record)`         `got <text of 53 characters>`
`log.exception("job failed")`                           type, code and frames of the error, and of
                                                        its causes; no message, no local variable
a `Secret`, bytes, any other object                     `Secret(***)`, `<9 bytes>`, `<Job>`
======================================================  ==========================================

With `debug`, which production refuses, texts are shown after redaction instead of withheld.

Nothing is written before `install`; until then loggers are silent.
"""

from privacy_runtime.logs.audited import Audited
from privacy_runtime.logs.correlation import adopt, adopted, bound, carried
from privacy_runtime.logs.installation import LOOK_S, Logging, LogOptions, install
from privacy_runtime.logs.loggers import Logger, logger
from privacy_runtime.logs.scrubbing import Scrubber

__all__ = [
    "LOOK_S",
    "Audited",
    "LogOptions",
    "Logger",
    "Logging",
    "Scrubber",
    "adopt",
    "adopted",
    "bound",
    "carried",
    "install",
    "logger",
]
