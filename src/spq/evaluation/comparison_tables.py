"""A comparison as text, CSV and LaTeX."""

from __future__ import annotations

import csv
import io

from spq.evaluation.compare import Comparison, Method

LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def as_text(comparison: Comparison) -> str:
    """Aligned text: methods, then differences, then how they were computed."""
    head = f"{comparison.protocol}: {comparison.queries:,} queries, {comparison.gallery:,} in the gallery"
    rows = [["", "bits", "seeds", comparison.metric, "95 % interval", *_others(comparison)]]
    rows += [
        [
            m.name,
            str(m.bits),
            str(m.seeds),
            _mean(m),
            _interval(m.interval),
            *(f"{m.others[o]:.4f}" for o in _others(comparison)),
        ]
        for m in comparison.methods
    ]
    lines = [head, *_aligned(rows)]
    if comparison.differences:
        rows = [["minus " + comparison.differences[0].reference, "difference", "95 % interval", "p", "p (Holm)"]]
        rows += [
            [d.name, f"{d.difference:+.4f}", _interval(d.interval, "+"), _p(d.p), _p(d.p_holm)]
            for d in comparison.differences
        ]
        lines += ["", *_aligned(rows)]
    lines += [
        f"+- is the standard deviation over seeds. Intervals: BCa bootstrap over queries; p: paired randomisation test "
        f"({comparison.resamples:,} resamples, seed {comparison.seed})",
        f"ties: {comparison.ties}",
    ]
    return "\n".join(lines)


def as_csv(comparison: Comparison) -> str:
    """One line for each method, numbers in full; a first line with names."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    names = ["method", "protocol", "split", "queries", "gallery", "bits", "distance", "seeds"]
    found = [comparison.metric, "std", "low", "high", *_others(comparison)]
    table.writerow([*names, *found, "difference", "difference_low", "difference_high", "p", "p_holm"])
    differences = {d.name: d for d in comparison.differences}
    for m in comparison.methods:
        about = [
            m.name,
            comparison.protocol,
            comparison.split,
            comparison.queries,
            comparison.gallery,
            m.bits,
            m.distance,
        ]
        d = differences.get(m.name)
        last = [d.difference, *d.interval, d.p, d.p_holm] if d else [""] * 5
        std = "" if m.std is None else m.std
        table.writerow([*about, m.seeds, m.mean, std, *m.interval, *(m.others[o] for o in _others(comparison)), *last])
    return out.getvalue()


def as_latex(comparison: Comparison) -> str:
    """A table for the LaTeX package booktabs, with the best of each column in bold."""
    others = _others(comparison)
    heads = ["Method", "Bits", comparison.metric, r"95\,\% interval", *map(_escaped, others)]
    if comparison.differences:
        heads += ["Difference", "$p$"]
    best = max(round(m.mean, 3) for m in comparison.methods)
    best_others = {name: max(round(m.others[name], 3) for m in comparison.methods) for name in others}
    differences = {d.name: d for d in comparison.differences}
    rows = []
    for m in comparison.methods:
        mean = _bold(f"{m.mean:.3f}", round(m.mean, 3) == best) + (f" $\\pm$ {m.std:.3f}" if m.std is not None else "")
        cells = [_escaped(m.name), str(m.bits), mean, _interval(m.interval, digits=3)]
        cells += [_bold(f"{m.others[name]:.3f}", round(m.others[name], 3) == best_others[name]) for name in others]
        if comparison.differences:
            d = differences.get(m.name)
            cells += [f"${d.difference:+.3f}$", f"${_p(d.p_holm)}$"] if d else ["", ""]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join([
        "% needs \\usepackage{booktabs}", f"% {comparison.protocol}: {comparison.queries} queries, "
        f"{comparison.gallery} in the gallery; intervals: BCa bootstrap over queries; p: paired randomisation test, Holm",
        f"\\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule",
        *rows, r"\bottomrule", r"\end{tabular}", "",
    ])  # fmt: skip


def _others(comparison: Comparison) -> list[str]:
    """The metrics that all methods have beside the compared one."""
    return [name for name in comparison.methods[0].others if all(name in m.others for m in comparison.methods)]


def _mean(method: Method) -> str:
    return f"{method.mean:.4f}" + ("" if method.std is None else f" +- {method.std:.4f}")


def _interval(interval: tuple[float, float], sign: str = "", digits: int = 4) -> str:
    return "{:{s}.{d}f} to {:{s}.{d}f}".format(*interval, s=sign, d=digits)


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _bold(text: str, is_best: bool) -> str:
    return f"\\textbf{{{text}}}" if is_best else text


def _escaped(text: str) -> str:
    """Text whose signs LaTeX does not read as commands.

    >>> _escaped("a_b 50%")
    'a\\\\_b 50\\\\%'
    """
    return "".join(LATEX.get(sign, sign) for sign in text)
