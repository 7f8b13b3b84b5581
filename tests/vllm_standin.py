"""A small server that speaks vLLM's routes over a model which is a table: the scores of the next token by the last one.

It takes vLLM's command line, reads safetensors, and loads weights and adapters from folders as vLLM does. `/fault` makes it worse."""

import asyncio
import json
import math
import os
import random
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from agentlightning_nb.engines.receiving import Receiving

KEY = os.environ["VLLM_API_KEY"]


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def read_table(path):
    raw = Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    told = next(v for k, v in json.loads(raw[8 : 8 + size]).items() if k != "__metadata__")
    rows, width = told["shape"]
    begin, end = (8 + size + at for at in told["data_offsets"])
    flat = struct.unpack(f"<{rows * width}f", raw[begin:end])
    return [flat[i * width : (i + 1) * width] for i in range(rows)]


class Table:
    def __init__(self, name, folder):
        self.base, self.tables, self.deltas = name, read_table(Path(folder) / "model.safetensors"), {}
        self.seen, self.faults, self.deadly = [], {}, os.environ.get("DEADLY")

    def logprobs(self, model, last):
        row = self.tables[last]
        if model in self.deltas:
            row = [a + b for a, b in zip(row, self.deltas[model][last], strict=True)]
        top = max(row)
        norm = top + math.log(sum(math.exp(x - top) for x in row))
        return [x - norm for x in row]

    def tokens(self, asked):
        "Of an answer, one by one with its logprob."
        luck, last = random.Random(asked.get("seed")), asked["prompt"][-1]
        for _ in range(asked["max_tokens"]):
            logprobs = self.logprobs(asked["model"], last)
            if asked["temperature"]:
                last = luck.choices(range(len(logprobs)), [math.exp(p) for p in logprobs])[0]
            else:
                last = max(range(len(logprobs)), key=logprobs.__getitem__)
            yield last, logprobs[last]
            if last in asked.get("stop_token_ids", ()):
                return

    def told(self, model, prompt, most):
        told = [None]
        for last in prompt[:-1]:
            logprobs = self.logprobs(model, last)
            best = sorted(range(len(logprobs)), key=logprobs.__getitem__)[-most:]
            told.append({str(t): {"logprob": logprobs[t]} for t in best})
        return told


class Routes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, told, status=200):
        raw = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        known = {"/health": {}, "/v1/models": {"data": [{"id": TABLE.base}]}, "/seen": TABLE.seen}
        self.say(known.get(self.path), 200 if self.path in known else 404)

    def do_PUT(self):
        raw = self.body()

        async def receive():
            return {"type": "http.request", "body": raw}

        async def send(event):
            sent.append(event)

        sent, headers = [], [(k.lower().encode(), v.encode()) for k, v in self.headers.items()]
        scope = {"type": "http", "method": self.command, "path": self.path, "headers": headers}
        asyncio.run(RECEIVING(scope, receive, send))
        self.say(json.loads(sent[1]["body"]), sent[0]["status"])

    do_DELETE = do_PUT

    def do_POST(self):
        asked = json.loads(self.body())
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.say({"error": "key"}, 401)
        if self.path == "/fault":
            TABLE.faults = asked
        elif self.path == "/collective_rpc":
            if not TABLE.faults.get("deaf"):
                TABLE.tables = read_table(Path(asked["kwargs"]["weights_path"]) / "model.safetensors")
        elif self.path == "/v1/load_lora_adapter":
            TABLE.deltas[asked["lora_name"]] = read_table(Path(asked["lora_path"]) / "adapter_model.safetensors")
        elif self.path == "/v1/unload_lora_adapter":
            del TABLE.deltas[asked["lora_name"]]
        elif self.path == "/v1/completions":
            return self.complete(asked)
        elif self.path != "/reset_prefix_cache":
            return self.say({}, 404)
        self.say({"adapters": list(TABLE.deltas)})

    def complete(self, asked):
        if asked["model"] != TABLE.base and asked["model"] not in TABLE.deltas:
            return self.say({"error": f"no model {asked['model']}"}, 404)
        if "prompt_logprobs" in asked:
            told = TABLE.told(asked["model"], asked["prompt"], asked["prompt_logprobs"])
            return self.say({"choices": [{"prompt_logprobs": told}]})
        TABLE.seen.append(asked["prompt"])
        if TABLE.deadly and int(TABLE.deadly) in asked["prompt"]:
            os._exit(9)
        if asked.get("stream"):
            return self.stream(asked)
        tokens = list(self.slowly(asked))
        self.say({"choices": [choice(asked, tokens)]})

    def slowly(self, asked):
        for told in TABLE.tokens(asked):
            time.sleep(TABLE.faults.get("slow", 0))
            yield told

    def stream(self, asked):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for made, token in enumerate(self.slowly(asked), 1):
            told = choice(asked, [token], made)
            self.wfile.write(b"data: " + json.dumps({"choices": [told]}).encode() + b"\n\n")
        self.close_connection = True


def choice(asked, tokens, made=None):
    ids = [t for t, _ in tokens]
    ended = ids[-1] in asked.get("stop_token_ids", ())
    reason = "stop" if ended else "length" if (made or len(ids)) == asked["max_tokens"] else None
    return {"token_ids": ids, "logprobs": {"token_logprobs": [p for _, p in tokens]}, "finish_reason": reason}


if __name__ == "__main__":
    TABLE = Table(option("--served-model-name"), option("--model"))
    RECEIVING = Receiving(None)
    ThreadingHTTPServer(("127.0.0.1", int(option("--port"))), Routes).serve_forever()
