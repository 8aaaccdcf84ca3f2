"""bench.py --growth: how cost grows with samples, vectors and ranks, and what is sent; Markdown tables."""
import os
import statistics

YIELDING = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none"}
SIZES, VECTORS = ("x1", "x2", "x4"), ("1", "2", "4", "8", "16")


def table(head, rows):
    print("\n| " + " | ".join(head) + " |\n| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def median_of(rounds, pick):
    return statistics.median(pick(r) for r in rounds)


class Growth:
    def __init__(self, a, measure):
        self.a, self.measure = a, measure

    def bench(self, mode, reduction="fast", threads=None, ranks=0):
        """One run of hsgd-bench; ranks 0: without a launcher."""
        a = self.a
        command = [os.path.join(a.build, "tests/bench/hsgd-bench"), "cpu", reduction, str(a.seconds),
                   f"threads={threads or a.threads}", f"samples={a.base}", f"cache={a.cache}", f"mode={mode}"]
        command += ["brief=true"] if a.brief else []
        if ranks > 0:
            command = [a.mpiexec, "-np", str(ranks), *command]
        return self.measure(command, YIELDING)

    def print_samples(self, rounds):
        """rounds: {figure: {variant: rate}}; the time of x2 over that of x1 is 2 r1 / r2."""
        rows = []
        for figure in rounds[0]:
            pick = [r[figure] for r in rounds]
            rows.append([figure, f"{median_of(pick, lambda r: r['x1']):,.0f}"]
                        + [f"{median_of(pick, lambda r, s=s, t=t: 2 * r[s] / r[t]):.3f}" for s, t in
                           zip(SIZES, SIZES[1:])])
        print(f"\nSamples, from {self.a.base:,} on, fast: time for twice as many over the time before (2 is linear)")
        table(["figure", "samples/s at x1", "x1 to x2", "x2 to x4"], rows)

    def print_vectors(self, rounds):
        rows = []
        for figure in rounds[0]:
            pick = [r[figure] for r in rounds]
            rows.append([figure] + [f"{median_of(pick, lambda r, v=v: r[v]):,.0f}" for v in VECTORS])
            rows.append([f"{figure}: time over that of one, a vector"]
                        + [f"{median_of(pick, lambda r, v=v: r['1'] / r[v]):.3f}" for v in VECTORS])
        print(f"\nVectors at once, {self.a.base:,} samples, fast: samples/s times vectors")
        table(["figure", *VECTORS], rows)

    def print_ranks(self, rounds, reduction):
        """rounds: [{column: {figure: rate}}]"""
        columns = list(rounds[0])
        rows = []
        for figure in rounds[0][columns[0]]:
            row = [figure] + [f"{median_of(rounds, lambda r, c=c: r[c][figure]):,.0f}" for c in columns]
            row += [f"{median_of(rounds, lambda r: r[columns[-1]][figure] / max(x[figure] for x in r.values())):.2f}"]
            rows.append(row)
        print(f"\nRanks on {os.cpu_count()} cores, {self.a.base:,} samples, {reduction}, one thread each, yielding: "
              "samples/s")
        table(["figure", *columns, "last / best"], rows)

    def print_messages(self, told):
        """told: {(reduction, ranks): {key: text}}.  The least that can be sent: the gradient once; of a product X
        gathered and Y scattered, once each; as float64."""
        n = 8 * int(next(iter(told.values()))["parameters"])
        keys = [key for key in next(iter(told.values())) if key.startswith("messages ")]
        ranks = sorted({r for _, r in told if r > 1})
        rows = []
        for key in keys:
            least = n * (2 if "product" in key else 1)
            row = [key.removeprefix("messages "), f"{least:,}"]
            for reduction in ("fast", "reproducible"):
                found = [told[reduction, r][key].split(", ") for r in ranks]
                sent = [float(text[1].split()[0]) for text in found]
                row.append(", ".join(sorted({text[0].split()[0] for text in found})))
                row.append(f"{min(sent):,.0f}" + (f" to {max(sent):,.0f}" if max(sent) > min(sent) else ""))
                if reduction == "fast":
                    row.append(f"{max(sent) - least:,.0f}")
            rows.append(row)
        print(f"\nMessages for each step, gradient or product, on {', '.join(map(str, ranks))} ranks: calls, and bytes "
              "of the arrays that they add, gather or scatter")
        table(["figure", "least bytes", "calls, fast", "bytes, fast", "beyond the least", "calls, reproducible",
               "bytes, reproducible"], rows)


def grouped(measured):
    """{"product kept | x1": rate} as {"product kept": {"x1": rate}}."""
    found = {}
    for key, rate in measured.items():
        figure, _, variant = key.partition(" | ")
        found.setdefault(figure, {})[variant] = rate
    return found


def run(a, measure):
    """Measure and print it all.  measure(command, environment) gives ({figure: rate}, {key: text})."""
    g, told = Growth(a, measure), {}
    sizes, vectors, ranks = [], [], {"fast": [], "reproducible": []}
    for _ in range(a.rounds):
        sizes.append(grouped(g.bench("samples")[0]))
        vectors.append(grouped(g.bench("vectors")[0]))
        for reduction, rounds in ranks.items():
            rounds.append({})
            for count in a.ranks:
                figures, told[reduction, count] = g.bench("ranks", reduction, threads=1, ranks=count)
                rounds[-1][f"{count}"] = figures
    g.print_samples(sizes)
    g.print_vectors(vectors)
    for reduction, rounds in ranks.items():
        g.print_ranks(rounds, reduction)
    if any(count > 1 for count in a.ranks):
        g.print_messages(told)
