"use strict";
// Groups the runs by any key of their recipes: small marks are runs, large ones a group's mean; and the same as a table.
const regroup = document.getElementById("regroup");
if (regroup) {
  const data = JSON.parse(document.getElementById("regroup-data").textContent);
  const [setups, keys] = regroup.querySelectorAll("select");
  const box = document.getElementById("chart-regroup");
  const note = regroup.querySelector("output");
  const body = regroup.querySelector("tbody");
  const option = (text, value) => new Option(text, value);
  const numeric = (text) => (text !== "" && !Number.isNaN(Number(text)) ? Number(text) : null);
  data.setups.forEach((setup, n) => setups.add(option(setup.words, n)));
  setups.closest("label").hidden = data.setups.length < 2;
  const fill = () => { keys.replaceChildren(...data.setups[setups.value].keys.map((key, n) => option(key, n))); };
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const spread = (values) => Math.sqrt(values.reduce((a, v) => a + (v - mean(values)) ** 2, 0) / (values.length - 1));
  const show = () => {
    const { runs, measures, units } = data.setups[setups.value];
    const groups = new Map();
    for (const run of runs) groups.set(run.by[keys.value], [...(groups.get(run.by[keys.value]) ?? []), run]);
    const names = [...groups.keys()]; // methods in their order, numbers by size
    const ordered = names.every((name) => numeric(name) !== null || name === "none");
    if (ordered) names.sort((a, b) => (numeric(a) ?? -Infinity) - (numeric(b) ?? -Infinity));
    const colour = (n) => (ordered ? data.ramp[Math.round((n * (data.ramp.length - 1)) / Math.max(1, names.length - 1))] : data.colour);
    const places = names.map((_, n) => names.length - n);
    const panels = measures.map((title, m) => ({
      title, x: { words: units[m] }, y: { words: "", names: names.map((name, n) => [places[n], name]) },
      marks: names.flatMap((name, n) => {
        const own = groups.get(name).filter((run) => run.values[m] !== null);
        if (!own.length) return [];
        const x = own.map((run) => run.values[m]);
        const look = { name, colour: colour(n), symbol: "circle", kind: "points" };
        return [{ ...look, x, y: x.map(() => places[n]), size: 5, faint: true, text: own.map((run) => `${run.id}: ${run.values[m]}`) },
          { ...look, x: [mean(x)], y: [places[n]], size: 10, text: [`${name}: mean ${mean(x).toPrecision(4)} of ${x.length} run${x.length === 1 ? "" : "s"}`] }];
      }),
    })).filter((panel) => panel.marks.length);
    const key = data.setups[setups.value].keys[keys.value];
    box.figure = { name: "regrouped", title: `Runs by ${key}`, columns: panels.length, least: 0, height: 17 * names.length + 40, shared: ["y"], panels };
    draw(box);
    body.replaceChildren(...names.map((name) => {
      const row = document.createElement("tr");
      const own = groups.get(name);
      const cells = measures.map((_, m) => {
        const values = own.map((run) => run.values[m]).filter((v) => v !== null);
        const digits = m ? 1 : 3;
        return values.length ? mean(values).toFixed(digits) + (values.length > 1 ? ` ± ${spread(values).toFixed(digits)}` : "") : "-";
      });
      for (const text of [name, String(own.length), String(new Set(own.map((run) => run.by[0])).size), ...cells]) row.insertCell().textContent = text.replaceAll("-0.", "−0.");
      return row;
    }));
    const pooled = names.filter((name) => new Set(groups.get(name).map((run) => run.by[0])).size > 1).length;
    note.textContent = pooled ? `${pooled} of ${names.length} groups average several recipes, which differ in more than ${key}.` : "";
  };
  setups.addEventListener("change", () => { fill(); show(); });
  keys.addEventListener("change", show);
  fill();
  charts.push(box);
  new IntersectionObserver((seen, self) => { if (seen.some((s) => s.isIntersecting)) { self.disconnect(); box.drawn = true; show(); } }, { rootMargin: "600px" }).observe(box);
  box.show = show;
}
