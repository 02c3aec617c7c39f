"use strict";
// Sorts and filters the comparison table, and shows all of it on demand.
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
  const [rows, columns, every] = tools.querySelectorAll("input");
  const few = new Set(tools.dataset.few.split(" ").map(Number));
  const count = tools.querySelector("output");
  const filter = () => {
    const words = rows.value.toLowerCase().split(/\s+/).filter(Boolean);
    const names = columns.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !words.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    }
    table.classList.toggle("few", !every.checked);
    heads.forEach((head, column) => {
      const wanted = names.length ? names.some((name) => head.textContent.toLowerCase().includes(name)) : every.checked || few.has(column);
      const hidden = column > 1 && !wanted;
      head.hidden = hidden;
      for (const row of body.rows) row.cells[column].hidden = hidden;
    });
    count.textContent = `${shown} of ${body.rows.length} rows`;
  };
  rows.addEventListener("input", filter);
  columns.addEventListener("input", filter);
  every.addEventListener("change", filter);
  filter();
}
for (const box of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "scrolls";
  hint.textContent = "more to the right: scroll →";
  hint.hidden = true;
  box.before(hint);
  const told = () => { hint.hidden = box.scrollWidth <= box.clientWidth + 1; };
  new ResizeObserver(told).observe(box);
  new ResizeObserver(told).observe(box.firstElementChild);
}
