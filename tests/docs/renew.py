"""Writes README's shown outputs and the tables of docs/findings.md again, from results.db.example as it is now.

python -m tests.docs.renew

Rows and columns stay as they are, and so do the words around them: read those again when a number has changed.
"""

from tests.conftest import REPO
from tests.docs.test_findings import GROUPS, WORDS, ask, sections
from tests.docs.test_readme import SHOWN, printed


def renewed_readme(text: str) -> str:
    """README with what its commands print now."""
    return SHOWN.sub(lambda found: f"```console\n$ gaprun {found[1]}\n{printed(found[1])}```", text)


def renewed_section(title: str, section: str) -> str:
    """A section of the findings with its table's numbers as its command says them now."""
    answers = ask(section)
    lines = section.split("\n")
    places = [number for number, line in enumerate(lines) if line.startswith("| ")]
    heads = [cell.strip() for cell in lines[places[0]].split("|")[1:-1]]
    for number in places[1:]:
        name, _, *cells = [cell.strip() for cell in lines[number].split("|")[1:-1]]
        if name not in GROUPS[title]:
            continue
        counts, made = set(), []
        for head, cell in zip(heads[2:], cells, strict=True):
            words, _, protocol = head.partition(" (")
            metric = WORDS[words]
            found = answers[GROUPS[title][name], metric, protocol.rstrip(")") or END.get(metric, "full")]
            counts.add(found["n"])
            decimals = len(cell.split()[0].partition(".")[2])
            if metric == "temperature":
                made.append(f"{found['mean']:.3g}")
            else:
                spread = f" ± {found['std']:.{decimals}f}" if found["n"] > 1 else ""
                made.append(f"{found['mean']:.{decimals}f}{spread}")
        (n,) = counts
        lines[number] = f"| {' | '.join([name, str(n), *made])} |"
    return "\n".join(lines)


END = {"temperature": "final"}


def main() -> None:
    """Write both files."""
    readme, findings = REPO / "README.md", REPO / "docs" / "findings.md"
    readme.write_text(renewed_readme(readme.read_text()))
    text = findings.read_text()
    for title, section in sections().items():
        if title in GROUPS:
            text = text.replace(section, renewed_section(title, section))
    findings.write_text(text)


if __name__ == "__main__":
    main()
