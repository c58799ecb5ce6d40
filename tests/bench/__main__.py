"""Print how the daemon does against mosquitto_pub: `make bench`."""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench import pipelines, rig
from tests.parts.catalogue import PartMissingError, locate
from tests.support.broker import BrokerError

AIM_FLOOD = 1.5
AIM_SINGLE = 0.25
AIM_ALWAYS = 1.0
AIM_ALWAYS_TO_SPILL = 0.5
AIM_P99 = 4.0

NAMES = {
    "peer": ("mosquitto_pub -q 1 -l", None),
    "flood": ("edge-gateway, up to 100 samples a message", AIM_FLOOD),
    "always": ("the same, each stored first (always)", AIM_ALWAYS),
    "single": ("edge-gateway, one sample a message", AIM_SINGLE),
}
"""What is flooded, and what its ratio to the peer should be at least."""

ON_DISK = "/var/tmp"  # noqa: S108 - each round makes a folder of its own there
"""Where the outbox stands while it is measured: on a disk also where /tmp is in memory."""


def quantile(values: list[float], share: float) -> float:
    """Return the value that `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(tools: pipelines.Tools, rounds: int, count: int) -> None:
    """Run the pipelines in turn, `rounds` times, and print medians and ratios."""
    rates: dict[str, list[pipelines.Rate]] = {key: [] for key in NAMES}
    delays: dict[str, list[float]] = {"peer": [], "gateway": []}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=ON_DISK) as name:
            folder = Path(name)
            with pipelines.mosquitto_pub(tools, folder) as running:
                delays["peer"] += pipelines.paced(running, 200, 1000)
                rates["peer"].append(pipelines.flood(running, count))
            with pipelines.daemon(tools, folder, 100) as running:
                delays["gateway"] += pipelines.paced(running, 200, 1000)
                rates["flood"].append(pipelines.flood(running, count))
            with pipelines.daemon(tools, folder, 100, "always") as running:
                rates["always"].append(pipelines.flood(running, count))
            with pipelines.daemon(tools, folder, 1) as running:
                rates["single"].append(pipelines.flood(running, count // 3))
    print_rates(rates)
    print_delays(delays)


def print_rates(rates: dict[str, list[pipelines.Rate]]) -> None:
    """Print samples a second and CPU, and their ratios to the peer's."""
    speed = {key: statistics.median(r.samples_per_s for r in rows) for key, rows in rates.items()}
    cpu = {key: statistics.median(r.cpu_s_per_10k for r in rows) for key, rows in rates.items()}
    print(
        f"\n{'flood, serial -> mosquitto, QoS 1':44}{'samples/s':>11}{'CPU s/10k':>11}{'ratio':>8}"
        f"{'aim':>6}"
    )
    for key, (name, aim) in NAMES.items():
        ratio = speed[key] / speed["peer"]
        print(f"{name:44}{speed[key]:11,.0f}{cpu[key]:11.3f}{ratio:8.2f}{_aim(aim)}")
    ratio = speed["always"] / speed["flood"]
    print(f"{'always to spill':44}{'':22}{ratio:8.2f}{_aim(AIM_ALWAYS_TO_SPILL)}")


def _aim(least: float | None) -> str:
    return "" if least is None else f"{least:6.2f}"


def print_delays(delays: dict[str, list[float]]) -> None:
    """Print the latency at 200 samples/s, and its ratio to the peer's."""
    print(f"\n{'latency at 200 samples/s':44}{'p50 ms':>11}{'p99 ms':>11}{'ratio':>8}")
    peer_p99 = quantile(delays["peer"], 0.99)
    for key, name in (("peer", "mosquitto_pub -q 1 -l"), ("gateway", "edge-gateway, 10 ports")):
        p50, p99 = quantile(delays[key], 0.5), quantile(delays[key], 0.99)
        print(f"{name:44}{p50:11.2f}{p99:11.2f}{p99 / peer_p99:8.2f}")
    print(f"{'aim':44}{'':22}{AIM_P99:5.2f} at most")


def main() -> int:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, in turn (default 3)")
    parser.add_argument("--samples", type=int, default=60_000, help="samples a flood (60000)")
    options = parser.parse_args()
    try:
        tools = pipelines.Tools(*map(locate, ("mosquitto", "mosquitto_pub", "mosquitto_sub")))
        measure(tools, options.rounds, options.samples)
    except (rig.BenchError, BrokerError, PartMissingError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
