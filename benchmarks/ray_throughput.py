"""What Ray costs a request, and what a second replica brings: the same engine alone and behind Ray Serve.

A replica is given one core as a container would be: all of its processes are bound to one of their own. The proxy, the
rest of Ray and the load run wherever there is room, so on two cores they take from both replicas; how much processor
time each of them took stands beside the rates.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import load
from benchmarks.ray_cluster import PROXIES, RayCluster, config, ray_cluster
from benchmarks.replicas import TEXTS, Plan, bind, family, measured
from benchmarks.report import Results, say, table
from benchmarks.systems import System, descendants, running
from benchmarks.texts import mixed_texts

ALONE, ONE, TWO = "without Ray", "one replica", "two replicas"


def measure(precision: str, plan: Plan, folder: Path) -> str:
    """Rates and medians, alone and with one and two replicas of one core."""
    kept = Results(folder, "ray-throughput", ("way", "clients", "beams"))
    kept.forget(lambda _: True)
    system = System("precis", precision)
    settings = {"PRECIS_CORES": "1", "PRECIS_LOG_LEVEL": "error", "PRECIS_PRECISION": precision}
    settings["PRECIS_MODEL_STORE"] = os.path.abspath(system.store)
    with running(system, settings) as server:
        bind([server.pid])
        for number in range(plan.rounds):
            _load(kept, system, server.url, ALONE, number, plan, lambda: {"service": family([server.pid])})
    for proxy, chosen in PROXIES.items():
        with ray_cluster([2], chosen) as cluster:
            for number in range(plan.rounds):
                for way, replicas in ((ONE, 1), (TWO, 2)):
                    cluster.run(config(replicas, settings))
                    bind(cluster.replicas())
                    _load(kept, system, cluster.url, f"{way}, {proxy}", number, plan, lambda: groups(cluster))
    return kept.write(_report(kept, plan))


def groups(cluster: RayCluster) -> dict[str, set[int]]:
    """Who takes processor time."""
    service, proxy = family(cluster.replicas()), set(cluster.proxies())
    return {"service": service, "proxy": proxy, "ray": set(descendants(os.getpid())) - service - proxy}


def _load(
    kept: Results,
    system: System,
    url: str,
    way: str,
    number: int,
    plan: Plan,
    groups: Callable[[], Mapping[str, set[int]]],
) -> None:
    for beams in plan.beams:
        bodies = [system.body(text, beams) for text in mixed_texts(TEXTS)]
        load.closed_loop(url, bodies, 16, 1.0)
        for clients in plan.clients:
            with measured(groups()) as times:
                found = load.closed_loop(url, bodies, clients, plan.seconds)
            kept.add(
                {
                    "way": way,
                    "clients": clients,
                    "beams": beams,
                    "round": number,
                    "rate": found.rate,
                    "p50": found.p50,
                    "p95": found.p95,
                    "errors": found.errors,
                    **times,
                }
            )
            say(f"round {number}: {way}, {clients} clients, {beams} beams: {found.rate:.1f} a second")


def _report(kept: Results, plan: Plan) -> list[str]:
    medians = {(record["way"], record["clients"], record["beams"]): record for record in kept.medians()}
    rows = []
    for beams in plan.beams:
        for clients in plan.clients:
            alone = medians[ALONE, clients, beams]
            for way in (ALONE, *(f"{count}, {proxy}" for proxy in PROXIES for count in (ONE, TWO))):
                record, one = medians[way, clients, beams], medians[way.replace(TWO, ONE), clients, beams]
                rows.append(
                    (
                        beams,
                        clients,
                        way,
                        f"{record['rate']:.1f}",
                        f"{record['rate'] / one['rate']:.2f}",
                        f"{record['p50']:.1f}",
                        f"{record['p50'] - alone['p50']:+.1f}",
                        *(f"{record.get(f'{name}_cores', 0.0):.2f}" for name in ("service", "proxy", "ray", "load")),
                        record["errors"],
                    )
                )
    how = (
        "Closed loops. Each replica, and the service without Ray, runs on one core of its own. The last columns: cores "
        "that each was busy with; `ray` is the rest of it, `load` the generator."
    )
    names = ("beams", "clients", "way", "rate", "times one replica", "median ms", "more than without Ray")
    return [how, table([*names, "service", "proxy", "ray", "load", "errors"], rows)]
