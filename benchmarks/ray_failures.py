"""The service on Ray under load, while replicas and nodes are killed, and while there are more of them and less.

Clients ask in a closed loop, half of them over a connection that is kept, half over a new one each time. A request that
was in flight in a process that is killed is lost with it, and fails; no other one may.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.asking import Asked, Clients
from benchmarks.ray_cluster import PROXIES, RayCluster, config, ray_cluster
from benchmarks.report import Results, say, table
from benchmarks.systems import System
from benchmarks.texts import mixed_texts

TEXTS = 200
SETTLED_SECONDS = 3.0  # of load before and after


@dataclass(frozen=True, slots=True)
class Course:
    """What became of every request while something happened: `struck` is the moment, then it took `seconds`."""

    asked: Sequence[Asked]
    struck: float
    seconds: float

    @property
    def failed(self) -> list[Asked]:
        return [each for each in self.asked if each.kind != "200"]

    @property
    def failed_later(self) -> list[Asked]:
        """Though they were sent only when it had happened."""
        return [each for each in self.failed if each.sent > self.struck]

    @property
    def longest_pause(self) -> float:
        """The most seconds without any summary, from a moment before it happened."""
        moments = sorted(each.ended for each in self.asked if each.kind == "200" and each.ended > self.struck - 1.0)
        return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


Happens = Callable[[], float]  # returns the moment, and takes as long as it takes until all is well again


def under_load(
    url: str, bodies: Sequence[bytes], clients: int, happens: Happens, settled: float = SETTLED_SECONDS
) -> Course:
    """So many clients before, during and after."""
    asking = Clients(url, bodies, clients)
    with ThreadPoolExecutor(1) as pool:  # for the clients: Ray starts nodes in the main thread only
        load = pool.submit(lambda: asyncio.run(asking.run()))
        try:
            time.sleep(settled)
            struck = happens()
            seconds = time.monotonic() - struck
            time.sleep(settled)
        finally:
            asking.over = True
        load.result()
    return Course(asking.asked, struck, seconds)


def kill_a_replica(cluster: RayCluster, number: int | None = None) -> Happens:
    """The newest one, or one of that node. There are as many again, in the end."""

    def happens() -> float:
        before = cluster.replicas()
        victim = max(cluster.replicas(number))
        os.kill(victim, signal.SIGKILL)
        struck = time.monotonic()
        cluster.wait_for_others({victim}, len(before))
        return struck

    return happens


def kill_a_node(cluster: RayCluster, number: int, cores: int) -> Happens:
    """Another one is added at once."""

    def happens() -> float:
        before, victims = cluster.replicas(), set(cluster.replicas(number))
        struck = cluster.kill_node(number)
        cluster.add_node(cores)
        cluster.wait_for_others(victims, len(before))
        return struck

    return happens


def scale(cluster: RayCluster, replicas: int, settings: dict[str, str]) -> Happens:
    def happens() -> float:
        struck = time.monotonic()
        cluster.run(config(replicas, settings))
        return struck

    return happens


def measure(precision: str, clients: int, rounds: int, folder: Path) -> str:
    """Every event once a round."""
    kept = Results(folder, "ray-failures", ("proxy", "event"))
    kept.forget(lambda _: True)
    system = System("precis", precision)
    bodies = [system.body(text, 1) for text in mixed_texts(TEXTS)]
    settings = {"PRECIS_PRECISION": precision, "PRECIS_MODEL_STORE": os.path.abspath(system.store)}
    for proxy, chosen in PROXIES.items():
        with ray_cluster([1, 1], chosen) as cluster:
            cluster.run(config(2, settings))
            for number in range(rounds):
                for event, happens in (
                    ("a replica is killed", kill_a_replica(cluster)),
                    ("a node is killed, and another one added", kill_a_node(cluster, 1, 1)),
                    ("one replica instead of two", scale(cluster, 1, settings)),
                    ("two replicas instead of one", scale(cluster, 2, settings)),
                ):
                    course = under_load(cluster.url, bodies, clients, happens)
                    kept.add({"proxy": proxy, "event": event, "round": number, **_facts(course)})
                    say(f"round {number}: {proxy}, {event}: {len(course.failed)} of {len(course.asked)} failed")
    return kept.write(_report(kept, clients))


def _facts(course: Course) -> dict[str, object]:
    last = max((each.ended for each in course.failed), default=course.struck)
    return {
        "requests": len(course.asked),
        "failed": len(course.failed),
        "failed_later": len(course.failed_later),
        "kinds": Counter(each.kind for each in course.failed),
        "last_failure": max(0.0, last - course.struck),
        "pause": course.longest_pause,
        "seconds": course.seconds,
    }


def _report(kept: Results, clients: int) -> list[str]:
    rows = [
        (
            record["proxy"],
            record["event"],
            record["requests"],
            record["failed"],
            ", ".join(f"{count} x {kind}" for kind, count in record["kinds"].items()) or "none",
            record["failed_later"],
            *(f"{record[name]:.2f}" for name in ("last_failure", "pause", "seconds")),
        )
        for record in kept.read()
    ]
    how = (
        f"{clients} clients in a closed loop, half of them with a new connection each time. `failed`: in flight in a "
        "process that was killed, but for those that were `sent later`. `last`: seconds from the event to the last of "
        "these; `pause`: the most seconds without a summary; `whole`: seconds from the event until there were as many "
        "replicas as wanted, and all of them served."
    )
    names = ("proxy", "event", "requests", "failed", "how", "sent later", "last", "pause", "whole")
    return [how, table(names, rows)]
