"use strict";
// Draws every chart from the JSON beside it, switches axes, sorts and filters the comparison table.
const charts = [...document.querySelectorAll(".chart")];
for (const box of charts) {
  const spec = JSON.parse(document.getElementById(box.id + "-spec").textContent);
  Plotly.newPlot(box, spec.data, spec.layout, { responsive: true, displaylogo: false, displayModeBar: false });
}
addEventListener("beforeprint", () => {
  charts.forEach((box) => Plotly.Plots.resize(box));
  document.querySelectorAll("#health details").forEach((list) => { list.open = true; });
});

for (const button of document.querySelectorAll(".switch button")) {
  button.addEventListener("click", () => {
    const { chart, axis, type } = button.dataset;
    Plotly.relayout(document.getElementById(chart), { [axis + ".type"]: type, [axis + ".autorange"]: true });
    for (const other of button.parentElement.querySelectorAll(`button[data-axis="${axis}"]`)) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (column === 0) return cell.dataset.value;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
      const compare = (a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        if (x === null || y === null) return (x === null) - (y === null); // rows without a value stay last
        return order * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
  const tools = document.getElementById(table.id + "-tools");
  const [rows, columns] = tools.querySelectorAll("input");
  const count = tools.querySelector("output");
  const filter = () => {
    const words = rows.value.toLowerCase().split(/\s+/).filter(Boolean);
    const names = columns.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !words.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    }
    heads.forEach((head, column) => {
      const hidden = column > 1 && names.length > 0 && !names.some((name) => head.textContent.toLowerCase().includes(name));
      head.hidden = hidden;
      for (const row of body.rows) row.cells[column].hidden = hidden;
    });
    count.textContent = `${shown} of ${body.rows.length} rows`;
  };
  rows.addEventListener("input", filter);
  columns.addEventListener("input", filter);
  filter();
}
