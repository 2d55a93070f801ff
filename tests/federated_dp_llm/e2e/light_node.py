"""A node as a process, like `federated-dp-llm node`, over a model that takes no time to load.

    python light_node.py FOLDER RECORDS NAME PORT SLOTS MATCH EPSILON DELTA ROUTER_KEY

Everything is the product's own but the model, which is made of hashes: its tokens are the first
sixteen of the demo's tokenizer, and for a label a record votes for the first one that it names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.federated_dp_llm.node.toy import ToyModel

from federated_dp_llm.demo.sample import MODEL
from federated_dp_llm.node.home import Promise, open_agent
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Records
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.node.server import make_app, serve_node
from federated_dp_llm.routing.vocabulary import TokenizerFile
from privacy_runtime.signing import PublicKey, TrustedKeys


class LightModel(ToyModel):
    """`ToyModel` with the tokenizer that the router reads; the token 2 ends an answer."""

    tokenizer = TokenizerFile(MODEL / "tokenizer.json").digest
    end_tokens = (2,)


def main() -> None:
    folder, records, name, port, slots, match, epsilon, delta, key = sys.argv[1:]
    read = Records.read(Path(records))
    agent = open_agent(
        Path(folder),
        NodePolicy(node_id=name, slots=int(slots), cohorts=read.cohorts),
        LightModel(),
        Retrieval(read, match=float(match)),
        trusted=TrustedKeys([PublicKey.from_json(json.loads(Path(key).read_bytes()))]),
        promise=Promise(epsilon=float(epsilon), delta=float(delta)),
    )
    serve_node(make_app(agent), host="127.0.0.1", port=int(port), tls=None)


if __name__ == "__main__":
    main()
