"""What a run leaves behind, read, checked and shown.

`folder` reads the files of a run, `check` prices the stored event again, `certified` checks its
certificate, `html` writes the page.
"""

from __future__ import annotations

from privacy_finetuner.reports.certified import Certified, certified
from privacy_finetuner.reports.check import Check, check
from privacy_finetuner.reports.folder import RunFolder, read_folder
from privacy_finetuner.reports.html import write_html

__all__ = ["Certified", "Check", "RunFolder", "certified", "check", "read_folder", "write_html"]
