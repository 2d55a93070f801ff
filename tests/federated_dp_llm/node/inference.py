"""A small inference server over one of our own models: the completions API, and SGLang's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

Answer = Callable[[list[int], dict[str, Any]], dict[str, Any]]


class Inference:
    """The server. `asked` holds the token ids of each request.

    Args:
        model: a causal language model of `transformers`.
        tokenizer: its tokenizer.
        knows_ids: whether it takes vLLM's options.
    """

    def __init__(self, model: Any, tokenizer: Any, *, knows_ids: bool = False) -> None:
        self._model, self._tokenizer, self._knows_ids = model, tokenizer, knows_ids
        self.asked: list[list[int]] = []
        self.instead: Callable[[list[int]], bytes | None] = lambda _: None
        """What is answered in the place of a computed answer."""

    def logs(self, ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return self._model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)

    def answer(self, path: str, body: dict[str, Any]) -> bytes:
        ids = body["input_ids" if path == "/generate" else "prompt"]
        self.asked.append(ids)
        replaced = self.instead(ids)
        if replaced is not None:
            return replaced
        logs = self.logs(ids)
        count = body["top_logprobs_num" if path == "/generate" else "logprobs"]
        top = [(token, float(logs[token])) for token in logs.topk(count).indices.tolist()]
        if path == "/generate":
            meta = {"output_top_logprobs": [[[value, token, None] for token, value in top]]}
            named = body.get("token_ids_logprob")
            if named is not None:
                rows = [[float(logs[token]), token, None] for token in named]
                meta["output_token_ids_logprobs"] = [rows]
            return json.dumps({"meta_info": meta}).encode()
        by_id = self._knows_ids and body.get("return_tokens_as_token_ids")
        if by_id and "logprob_token_ids" in body:
            top = [(token, float(logs[token])) for token in body["logprob_token_ids"]]
        said = {
            f"token_id:{token}" if by_id else self._tokenizer.decode([token]): value
            for token, value in top
        }
        return json.dumps({"choices": [{"logprobs": {"top_logprobs": [said]}}]}).encode()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its address."""
        inference = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                content = inference.answer(self.path, body)
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
