"""What rewriting a prompt under local differential privacy leaves of it, and at which epsilon.

    python benchmarks/rewriting.py --json [--epsilons 10,30,60] [--model FOLDER --prompts FILE]

The prompts are the demo's 96 held-back questions (JSON lines with `question`), the words and
embeddings its model's. For each epsilon a token: the share of tokens that stay what they were, the
share of prompts that do, and the mean epsilon of a whole prompt, which every answer prints.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

import federated_dp_llm.demo
from federated_dp_llm.api.rewriting import PromptRewriter
from privacy_runtime.testing import SeededEntropy

ASSETS = Path(federated_dp_llm.demo.__file__).parent / "assets"


def measured(model: Path, prompts: list[str], epsilon: float) -> dict[str, Any]:
    """One row."""
    words = Tokenizer.from_file(str(model / "tokenizer.json"))
    rewriting = PromptRewriter(model, epsilon_per_token=epsilon, entropy=SeededEntropy(1)).rewriting
    entropy, kept, total, whole = SeededEntropy(7), 0, 0, 0
    for prompt in prompts:
        ids = words.encode(prompt, add_special_tokens=False).ids
        same = sum(rewriting.draw(token, entropy) == token for token in ids)
        kept, total, whole = kept + same, total + len(ids), whole + (same == len(ids))
    return {
        "epsilon_per_token": epsilon,
        "epsilon_of_a_prompt": round(rewriting.epsilon(total) / len(prompts), 1),
        "tokens_kept": round(kept / total, 3),
        "prompts_kept": round(whole / len(prompts), 3),
        "candidates": len(rewriting.candidates),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--epsilons", default="1,10,20,30,40,50,60,80,100")
    parser.add_argument("--model", type=Path, default=ASSETS / "model")
    parser.add_argument("--prompts", type=Path, default=ASSETS / "heldout.jsonl")
    options = parser.parse_args()
    lines = options.prompts.read_text().splitlines()
    prompts = [json.loads(line)["question"] for line in lines]
    rows = [measured(options.model, prompts, float(one)) for one in options.epsilons.split(",")]
    result = {"prompts": len(prompts), "rows": rows}
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
