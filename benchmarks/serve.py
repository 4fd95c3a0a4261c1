"""`serve` on loopback: throughput beside offline `predict`, latency, memory, hostile uploads, a killed server.

python benchmarks/serve.py --images FOLDER [--clients 32] [--seconds 8] [--requests 10000] [--hostile 1000]

Two models with random heads on packaged tf_efficientnet_lite0: `large` at --size, for rates; `small` at 64 pixels for
the many requests. Rates alternate between both sides, because the machine may be busy with other things; core-ms are
processor time per photo of the process that predicts, which a busy machine changes least.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
from serve_clients import Client, Served, bomb, closed_loop, in_threads, open_loop, request, served  # noqa: E402

from pipeline.catalogue.labels import LabelSchema  # noqa: E402
from pipeline.catalogue.reading.photos import is_photo  # noqa: E402
from pipeline.features.backbone.network import base_key, load_backbone  # noqa: E402
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model, save_model  # noqa: E402
from pipeline.model.predictor import Predictor  # noqa: E402
from pipeline.options import BackboneOptions, PredictOptions  # noqa: E402

VALUES = (8, 40, 46, 5, 3)


def make_model(path: Path, size: int) -> Path:
    """A model file: five attributes with as many values as a catalogue may have, a linear head of random numbers."""
    backbone = load_backbone(BackboneOptions("tf_efficientnet_lite0", "package", size, "squash"))
    key, block = base_key(backbone), backbone.blocks(["pooled"])["pooled"]
    origin = FeatureOrigin(
        [{"name": "pooled", "dim": block.dim, "digest": block.digest(key)}], key.to_json(), "package"
    )
    names = tuple(f"attribute{i}" for i in range(len(VALUES)))
    schema = LabelSchema(names, tuple(tuple(f"v{j}" for j in range(n)) for n in VALUES), (True,) * len(VALUES))
    rng = np.random.default_rng(0)
    member = {"kind": "dense", "layers": [(rng.normal(size=(block.dim, schema.size)), np.zeros(schema.size))]}
    X = rng.normal(size=(4, block.dim)).astype(np.float32)
    parts = Parts([{**member, "hidden": "relu"}], ["softmax"] * len(VALUES))
    save_model(build_model(schema, parts, Decision(np.zeros(schema.size), "best"), origin, X), path)
    return path


def rates(server: Served, model: Path, photos: list[Path], asked: argparse.Namespace) -> None:
    """Photos per second and core-ms of both sides, by turns."""
    requests = [request(path.read_bytes(), "large") for path in photos]
    predictor = Predictor(model, PredictOptions(device="cpu"))
    predictor.predict(photos)
    closed_loop(server, requests, 4, 2)
    online, offline, core = [], [], {"serve": [], "predict": []}
    for _ in range(asked.rounds):
        cpu, start = server.core_seconds, time.monotonic()
        count = closed_loop(server, requests, asked.clients, asked.seconds)
        online.append(count / (time.monotonic() - start))
        core["serve"].append(1000 * (server.core_seconds - cpu) / count)
        cpu, start, count = time.process_time(), time.monotonic(), 0
        while time.monotonic() < start + asked.seconds:
            predictor.predict(photos)
            count += len(photos)
        offline.append(count / (time.monotonic() - start))
        core["predict"].append(1000 * (time.process_time() - cpu) / count)
    mine, theirs = (statistics.median(rows) for rows in (online, offline))
    print(f"| serve, {asked.clients} clients | {mine:.1f} photos/s | {statistics.median(core['serve']):.1f} core-ms |")
    print(f"| predict, offline | {theirs:.1f} photos/s | {statistics.median(core['predict']):.1f} core-ms |")
    share = statistics.median(a / b for a, b in zip(online, offline, strict=True))
    cores = statistics.median(b / a for a, b in zip(core["serve"], core["predict"], strict=True))
    rounds = ", ".join(f"{a / b:.2f}" for a, b in zip(online, offline, strict=True))
    print(f"| share | {share:.2f} by time (rounds: {rounds}) | {cores:.2f} by processor time |")
    took = open_loop(server, requests, mine / 2, asked.seconds)
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(f"| half load ({mine / 2:.0f}/s, {len(took)} requests) | p50 {1000 * p50:.0f} ms | p99 {1000 * p99:.0f} ms |")


def memory(server: Served, photos: list[Path], total: int) -> None:
    """Memory of the server over many requests of 16 clients."""
    requests, seen = [request(path.read_bytes(), "small") for path in photos], []

    def work(i: int) -> None:
        client = Client(server.port)
        for j in range(total // 160):
            assert client.ask(requests[(i + j) % len(requests)])[0] == 200

    for _ in range(10):
        in_threads(16, work)
        seen.append(server.resident)
    print(f"| memory over {total} requests | {', '.join(f'{mib:.0f}' for mib in seen)} MiB | after each tenth |")


def hostile(server: Served, photos: list[Path], total: int) -> None:
    """Uploads of every bad kind by 8 clients, while others go on asking for what they had before."""
    good = [path.read_bytes() for path in photos]
    alone = {body: Client(server.port).ask(request(body, "small")) for body in good[:8]}
    kinds: dict[str, Callable[[random.Random], bytes]] = {
        "truncated": lambda dice: request((body := dice.choice(good))[: dice.randrange(1, len(body) - 2)], "small"),
        "bomb": lambda dice: request(bombs, "small"),
        "HTML": lambda dice: request(b"<!doctype html><script>alert(1)</script>" * dice.randrange(1, 99), "small"),
        "100 MB": lambda dice: request(bytes(100 * 2**20), "small"),
        "slow body": lambda dice: request(b"\xff\xd8\xff", "small", 10_000),
        "hangs up": lambda dice: request(dice.choice(good)[:2000], "small", 20_000),
    }
    bombs, plan = bomb(), ["100 MB"] * (total // 100) + ["slow body"] * (total // 50) + ["hangs up"] * (total // 10)
    plan += ["truncated", "bomb", "HTML"] * ((total - len(plan)) // 3 + 1)
    plan, answers, wrong, over = plan[:total], Counter[str](), [0, 0], threading.Event()
    random.Random(0).shuffle(plan)
    waiting, lock = iter(plan), threading.Lock()

    def attack(i: int) -> None:
        dice = random.Random(i)
        while True:
            with lock:
                kind = next(waiting, None)
            if kind is None:
                return
            client = Client(server.port)
            if kind == "hangs up":
                client.socket.sendall(kinds[kind](dice))
                client.socket.close()
                answers["hangs up: none"] += 1
                continue
            try:
                answers[f"{kind}: {client.ask(kinds[kind](dice))[0]}"] += 1
            except OSError as error:
                answers[f"{kind}: {type(error).__name__}"] += 1

    def bystander(i: int) -> None:
        client = Client(server.port)
        while not over.is_set():
            for body, before in alone.items():
                status, content = client.ask(request(body, "small"))
                same = status == 200 and _values(content) == _values(before[1])
                wrong[0], wrong[1] = wrong[0] + 1, wrong[1] + (not same)

    others = [threading.Thread(target=bystander, args=(i,)) for i in range(2)]
    for thread in others:
        thread.start()
    in_threads(8, attack)
    over.set()
    for thread in others:
        thread.join()
    print(f"| {total} hostile uploads | {', '.join(f'{k} x {n}' for k, n in sorted(answers.items()))} | |")
    print(
        f"| requests of others meanwhile | {wrong[0]}, {wrong[1]} of them not as before | {server.resident:.0f} MiB |"
    )


def _values(content: bytes) -> Any:
    return json.loads(content)["photos"][0]["values"]


def restart(models: list[str], photo: Path) -> None:
    """A server that is killed amid requests, and one at the same port after it."""
    with served(models) as first:
        before = _values(Client(first.port).ask(request(photo.read_bytes(), "small"))[1])
        for _ in range(8):
            Client(first.port).socket.sendall(request(photo.read_bytes(), "small"))
        first.process.kill()
    start = time.monotonic()
    with served(models, first.port) as second:
        connection = http.client.HTTPConnection("127.0.0.1", second.port)
        connection.request("GET", "/ready")
        ready = connection.getresponse().status == 200
        same = _values(Client(second.port).ask(request(photo.read_bytes(), "small"))[1]) == before
    print(
        f"| killed, started at the same port | ready {ready}, same values {same} | {time.monotonic() - start:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--hostile", type=int, default=1_000)
    asked = parser.parse_args()
    photos = sorted(path for path in asked.images.rglob("*") if is_photo(path.name))[: asked.photos]
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            name: make_model(Path(folder) / f"{name}.joblib", s) for name, s in (("large", asked.size), ("small", 64))
        }
        models = [str(path) for path in paths.values()]
        restart(models[1:], photos[0])
        with served(models) as server:
            rates(server, paths["large"], photos, asked)
            hostile(server, photos, asked.hostile)
            memory(server, photos, asked.requests)


if __name__ == "__main__":
    main()
