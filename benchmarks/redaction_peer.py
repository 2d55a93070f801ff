"""The peer's side of `redaction.py`: Presidio's default recognisers, in its own environment.

Reads {"speed": {name: [text, ...]}, "quality": [text, ...], "adversarial": {name: text}} from
standard input, writes seconds and spans to standard output. Imports nothing of ours.
"""

from __future__ import annotations

import json
import logging
import sys
import time

logging.disable(logging.CRITICAL)


def analyzer():  # type: ignore[no-untyped-def]
    """Presidio with its default registry and a blank spaCy model: no download, no names."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}

        def load(self) -> None:
            """Nothing to load."""

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            doc = self.nlp["en"].make_doc(text)
            lemmas = [token.lower_ for token in doc]
            return NlpArtifacts([], doc, [t.idx for t in doc], lemmas, self, "en")

    engine = Blank()
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def main() -> None:
    job = json.load(sys.stdin)
    engine = analyzer()

    def find(text: str):  # type: ignore[no-untyped-def]
        return engine.analyze(text=text, language="en", score_threshold=0.4)

    answer: dict[str, object] = {"seconds": {}, "adversarial": {}, "spans": []}
    for name, texts in job["speed"].items():
        for text in texts[: len(texts) // 3]:
            find(text)
        timed = []
        for text in texts[len(texts) // 3 :]:
            start = time.process_time()
            find(text)
            timed.append(time.process_time() - start)
        answer["seconds"][name] = timed  # type: ignore[index]
    for name, text in job["adversarial"].items():
        start = time.process_time()
        find(text)
        answer["adversarial"][name] = time.process_time() - start  # type: ignore[index]
    for text in job["quality"]:
        kept: list[tuple[int, int, str]] = []
        for r in sorted(find(text), key=lambda r: (-r.score, r.start - r.end, r.start)):
            if all(r.end <= a or b <= r.start for a, b, _ in kept):
                kept.append((r.start, r.end, r.entity_type))
        answer["spans"].append(kept)  # type: ignore[attr-defined]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
