"use strict";
// Draws every figure from the numbers beside it: panels as wide as there is room for, colours of a light or a dark page.
const DARK = JSON.parse(document.getElementById("dark-colours").textContent);
const scheme = matchMedia("(prefers-color-scheme: dark)");
const charts = [...document.querySelectorAll(".chart")];
let onPaper = false;
const shade = (colour) => (scheme.matches && !onPaper ? DARK[colour] ?? colour : colour);
const HALO = Array(8).fill("0 0 2px paper").join(", "); // what keeps words legible on lines
const [INK, PAPER, GRID, SOFT] = ["#1c2733", "#ffffff", "#e3e8ec", "#5b6876"];
const PAGE = 680; // pixels of a printed page between its margins
const LINE = 19; // pixels of a line of a saved picture's legend

const pen = document.createElement("canvas").getContext("2d");
const widthIn = (text, size, weight = "") => { pen.font = `${weight} ${size}px system-ui, sans-serif`; return pen.measureText(text).width; };
/* The text, without its middle where there is no room for all of it. */
function fitted(text, room, size, weight = "") {
  const letters = [...text];
  let kept = letters.length;
  const shown = () => (kept === letters.length ? text : letters.slice(0, Math.ceil(kept / 2)).join("") + "…" + letters.slice(letters.length - Math.floor(kept / 2)).join(""));
  while (kept > 4 && widthIn(shown(), size, weight) > room) kept--;
  return shown();
}

function trace(mark, n, named) {
  const colour = shade(mark.colour);
  const axis = n ? String(n + 1) : "";
  const found = {
    type: "scatter", x: mark.x, y: mark.y, xaxis: "x" + axis, yaxis: "y" + axis, name: mark.name, legendgroup: mark.name,
    showlegend: false, hoverinfo: mark.faint && mark.kind === "line" ? "skip" : undefined,
  };
  if (mark.kind === "words") {
    return { ...found, mode: "text", text: mark.text.map((word) => " " + word), textposition: "middle right",
      textfont: { size: mark.text.every((word) => word.length < 2) ? 14 : 10.5, color: colour, shadow: HALO.replaceAll("paper", shade(PAPER)) }, cliponaxis: false, hoverinfo: "skip" };
  }
  found.mode = { line: "lines", points: "markers", both: "lines+markers" }[mark.kind];
  found.line = { color: colour, width: mark.faint ? 1 : 2.4, dash: mark.dash ?? "solid" };
  found.marker = { color: colour, symbol: mark.symbol, size: mark.size, opacity: 1, line: { width: mark.symbol.endsWith("-open") ? 1.6 : 0, color: colour } };
  found.opacity = mark.faint ? (mark.kind === "line" ? 0.45 : 0.4) : 1;
  const bar = (ends, values) => ({ type: "data", symmetric: false, array: ends[1].map((v, i) => v - values[i]),
    arrayminus: ends[0].map((v, i) => values[i] - v), color: colour, thickness: 1.4, width: 2.5 });
  if (mark.x_ends) found.error_x = bar(mark.x_ends, mark.x);
  if (mark.y_ends) found.error_y = bar(mark.y_ends, mark.y);
  if (mark.text) found.hovertemplate = "%{text}" + (mark.x_ends ? "" : "<br>%{x:.4g}, %{y:.4g}") + "<extra></extra>", found.text = mark.text;
  if (mark.listed && !named.has(mark.name)) named.add(mark.name), (found.showlegend = true);
  return found;
}

function axisOf(axis, shared, letter, first, labelled) {
  const found = {
    title: { text: labelled ? axis.words : "", standoff: 6, font: { size: 12 } }, type: axis.log ? "log" : "linear", gridcolor: shade(GRID),
    zeroline: !!axis.zero, zerolinecolor: shade(SOFT), zerolinewidth: 1.2, linecolor: shade(SOFT), tickfont: { size: 10.5 },
    color: shade(INK), ticks: "outside", ticklen: 3, tickcolor: shade(GRID), tickangle: 0, nticks: 5, exponentformat: "none",
  };
  if (axis.zero && !axis.log) found.rangemode = "tozero"; // how far from it is what such an axis shows
  if (axis.names) Object.assign(found, { tickmode: "array", tickvals: axis.names.map((n) => n[0]), ticktext: axis.names.map((n) => n[1]), ticks: "" });
  if (axis.names && axis.names.length && letter === "y") found.range = [0.3, Math.max(...axis.names.map((n) => n[0])) + 0.7];
  if (axis.ends) found.range = axis.log ? axis.ends.map(Math.log10) : axis.ends;
  if (shared && !first) found.matches = letter;
  return found;
}

/* Whole numbers at 1, 2 and 5 of a logarithmic axis; over many decades at their starts alone. */
function logTicks(panels, letter) {
  const values = panels.flatMap((panel) => panel.marks.flatMap((mark) => mark[letter])).filter((v) => v > 0);
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10);
  const digits = high - low > 2.8 ? [1] : high - low < 1 ? [1, 2, 3, 4, 5, 7] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) found.push(...digits.map((digit) => Number((digit * 10 ** power).toPrecision(1))));
  const [first, last] = [10 ** low, 10 ** high];
  if (last > first && found.filter((tick) => tick >= first && tick <= last).length < 2) { // less than such numbers can tell apart
    const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10((last - first) / 4))).find((n) => n >= (last - first) / 4);
    found.length = 0;
    for (let n = Math.ceil(first / step); n * step <= last; n++) found.push(Number((n * step).toPrecision(6)));
  }
  return { tickmode: "array", tickvals: found, ticktext: found.map(String) };
}

/* Two or three round numbers of what is drawn, for an axis of `wide` pixels as on a phone: left to itself it may show one, which
   is no scale. As many as do not touch, two in any case. */
function fewTicks(panels, wide, size) {
  const drawn = panels.flatMap((panel) => panel.marks.flatMap((mark) => [...mark.x, ...(mark.x_ends ?? []).flat()]));
  const values = [...drawn, ...(panels[0].x.zero ? [0] : [])].filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (!(high > low)) return { nticks: 3 };
  const power = 10 ** Math.floor(Math.log10(high - low));
  const step = [5, 2, 1, 0.5, 0.2, 0.1].map((n) => n * power).find((n) => Math.floor(high / n) > Math.ceil(low / n));
  const [first, last] = [Math.ceil(low / step), Math.floor(high / step)];
  const found = Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(6)));
  const text = (v) => String(v).replace("-", "−");
  const half = (v) => widthIn(text(v), size) / 2;
  const free = (list) => list.every((v, n) => !n || ((v - list[n - 1]) / (high - low)) * 0.9 * wide > half(v) + half(list[n - 1]) + 3);
  const few = [found, found.filter((_, n) => n % 2 === 0)].find((list) => list.length > 1 && list.length < 4 && free(list)) ?? [found[0], found[found.length - 1]];
  return { tickmode: "array", tickvals: few, ticktext: few.map(text) };
}

// What stands in the legend: a mark a name, the first that is listed; one name alone needs no legend.
function entries(figure) {
  const found = new Map();
  for (const mark of figure.panels.flatMap((panel) => panel.marks)) if (mark.listed && !found.has(mark.name)) found.set(mark.name, mark);
  return found.size > 1 ? [...found.values()] : [];
}

function layoutOf(figure, width, saved) {
  const { panels } = figure;
  const phone = width < 560;
  const names = panels[0].y.names ?? [];
  const size = phone && names.length ? 9 : 11;
  const longest = Math.max(0, ...names.map((n) => widthIn(n[1], size)));
  const one = figure.shared.includes("y");
  const left = names.length ? Math.min(longest + 12, width * 0.4) : 54;
  const columns = figure.least ? Math.max(1, Math.min(figure.columns, Math.floor(width / figure.least))) : figure.columns;
  const rows = Math.ceil(panels.length / columns);
  const word = Math.max(0, ...panels.flatMap((p) => p.marks.filter((m) => m.kind === "words")).flatMap((m) => m.text.map((w) => w.length))) * 6;
  const between = one ? (phone ? 8 : Math.max(16, word + 6)) : 62;
  const listed = entries(figure);
  const entry = Math.max(0, ...listed.map((one) => one.name.length)) * 6.2 + 4; // pixels of one in a saved picture's legend
  const legend = saved && listed.length ? Math.ceil(listed.length / Math.max(1, Math.floor(width / (entry + 44)))) * LINE + 6 : 0;
  const margin = { l: left, r: Math.max(14, word + 2), t: legend + 24, b: 44 };
  const lower = one && figure.shared.includes("x") ? 44 : 76; // between rows of panels: a title, and an axis' words where they are not shared
  const high = names.length ? Math.round((figure.height * (phone ? 13 : 17)) / 17) : figure.height;
  const inner = { w: width - margin.l - margin.r, h: rows * high + (rows - 1) * lower };
  const wide = (inner.w - (columns - 1) * between) / columns;
  const layout = {
    width, height: inner.h + margin.t + margin.b, margin, hovermode: "closest", annotations: [], shapes: [], dragmode: "zoom",
    font: { family: "system-ui, sans-serif", size: 12, color: shade(INK) }, paper_bgcolor: shade(PAPER), plot_bgcolor: shade(PAPER),
    legend: { orientation: "h", x: 0, xref: "container", xanchor: "left", y: 1, yref: "container", yanchor: "top", font: { size: 11 }, entrywidth: entry, entrywidthmode: "pixels" },
    showlegend: !!saved, uirevision: figure.uirevision,
    hoverlabel: { font: { size: 12 } },
  };
  panels.forEach((panel, n) => {
    const [row, column] = [Math.floor(n / columns), n % columns];
    const key = n ? String(n + 1) : "";
    const start = (column * (wide + between)) / inner.w;
    const top = 1 - (row * (high + lower)) / inner.h;
    const last = n + columns >= panels.length;
    const x = axisOf(panel.x, figure.shared.includes("x"), "x", !n, last || !(one && figure.shared.includes("x")));
    const y = axisOf(panel.y, one, "y", !n, !one || column === 0);
    for (const [axis, letter] of [[x, "x"], [y, "y"]]) if (panel[letter].log) Object.assign(axis, logTicks(figure.shared.includes(letter) ? panels : [panel], letter));
    Object.assign(x, { domain: [start, start + wide / inner.w], anchor: "y" + key });
    Object.assign(y, { domain: [Math.max(0, top - high / inner.h), top], anchor: "x" + key });
    if (names.length) Object.assign(y, { tickfont: { size }, ticktext: y.ticktext.map((name) => fitted(name, left - 8, size)) });
    if (names.length && phone) Object.assign(x, panel.x.log ? {} : fewTicks(figure.shared.includes("x") ? panels : [panel], wide, 8), { tickangle: 0, tickfont: { size: 8 }, title: { text: x.title.text.replace(" from ", " from<br>"), font: { size: 9 }, standoff: 4 } });
    if (one && column) y.showticklabels = false;
    if (figure.square) y.scaleanchor = "x" + key;
    if (panel.x.margin) layout.shapes.push({ type: "rect", xref: "x" + key, yref: `y${key} domain`, x0: -panel.x.margin, x1: panel.x.margin, y0: 0, y1: 1, layer: "below", line: { width: 0 }, fillcolor: shade(SOFT), opacity: 0.16 });
    layout["xaxis" + key] = x;
    layout["yaxis" + key] = y;
    let letters = phone ? (names.length ? 9 : 10) : 12;
    const room = names.length ? Infinity : column === columns - 1 ? wide + margin.r : wide + between - 8;
    while (letters > 9 && widthIn(panel.title, letters, "bold") > room) letters -= 0.5;
    layout.annotations.push({ text: `<b>${fitted(panel.title, room, letters, "bold")}</b>`, xref: `x${key} domain`, yref: `y${key} domain`, x: 0, y: 1, yshift: 3,
      xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: letters, color: shade(INK) } });
  });
  return layout;
}

function drawing(figure, width, saved = false) {
  const named = new Set();
  const data = figure.panels.flatMap((panel, n) => panel.marks.filter((mark) => !figure.off?.has(mark.name)).map((mark) => trace(mark, n, named)));
  return { data, layout: layoutOf(figure, width, saved) };
}

const SIGNS = { circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", cross: "✚", x: "✖", star: "★", "triangle-down": "▼", pentagon: "⬟", hexagon: "⬢" };
/* The legend above a figure; an entry takes its marks away and brings them back. */
function legendOf(box) {
  const list = document.createElement("div");
  list.className = "legend";
  for (const mark of entries(box.figure)) {
    const button = document.createElement("button");
    const sign = document.createElement("span");
    sign.textContent = mark.kind === "line" ? (mark.dash ? "╌" : "━") : SIGNS[mark.symbol.replace("-open", "")];
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(sign, " " + mark.name);
    button.addEventListener("click", () => {
      const off = (box.figure.off ??= new Set());
      if (!off.delete(mark.name)) off.add(mark.name);
      button.setAttribute("aria-pressed", String(!off.has(mark.name)));
      draw(box);
    });
    const colour = () => { sign.style.color = shade(mark.colour); };
    colour();
    box.colours = [...(box.colours ?? []), colour];
    list.append(button);
  }
  if (list.childElementCount) box.before(list);
}

/* A figure of one panel that needs more room than there is scrolls. A page to print is still as wide as the screen when it
   is asked for: what fits A4 and Letter is known. */
const widthOf = (box) => onPaper ? PAGE : Math.max(box.clientWidth, box.figure.columns === 1 ? box.figure.least : 0);

function draw(box) {
  const { data, layout } = drawing(box.figure, widthOf(box));
  box.style.height = layout.height + "px";
  (box.colours ?? []).forEach((colour) => colour());
  const drawn = Plotly.react(box, data, layout, { displaylogo: false, displayModeBar: false, scrollZoom: false });
  if (box.figure.hover && !box.hovers) {
    box.hovers = true;
    const alone = (name) => Plotly.restyle(box, { opacity: box.data.map((one) => (!name || one.mode === "text" || one.name === name ? 1 : 0.12)) });
    box.on("plotly_hover", ({ points }) => alone(points[0].data.name));
    box.on("plotly_unhover", () => alone());
  }
  return drawn;
}

for (const box of charts) {
  box.figure = JSON.parse(document.getElementById(box.id + "-data").textContent);
  legendOf(box);
  if (box.clientWidth) box.style.height = layoutOf(box.figure, widthOf(box)).height + "px";
}
// What lies below the first screen is drawn when it comes near it.
const near = new IntersectionObserver((seen) => seen.filter((s) => s.isIntersecting).forEach(({ target }) => { near.unobserve(target); target.drawn = true; draw(target); }), { rootMargin: "600px" });
const drawAll = (some = charts) => some.forEach((box) => { near.unobserve(box); box.drawn = true; if (box.clientWidth) box.figure ? draw(box) : box.show(); });
charts.forEach((box) => near.observe(box));
const again = () => drawAll(charts.filter((box) => box.drawn));
let waiting = 0;
let lastWidth = innerWidth;
addEventListener("resize", () => { if (innerWidth !== lastWidth) { lastWidth = innerWidth; clearTimeout(waiting); waiting = setTimeout(again, 120); } });
scheme.addEventListener("change", again);
document.addEventListener("toggle", (event) => { if (event.target.open) drawAll([...event.target.querySelectorAll(".chart")]); }, true);
addEventListener("beforeprint", () => { onPaper = true; document.querySelectorAll("details:not(.words)").forEach((part) => { part.open = true; }); drawAll(); });
addEventListener("afterprint", () => { onPaper = false; again(); });

for (const button of document.querySelectorAll("button[data-axis]")) {
  button.addEventListener("click", () => {
    const { chart, axis, type } = button.dataset;
    const box = document.getElementById(chart);
    box.figure.panels.forEach((panel) => { panel[axis].log = type === "log"; });
    draw(box);
    for (const other of button.parentElement.querySelectorAll(`button[data-axis="${axis}"]`)) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  });
}

/* A figure as a file: its title above it, in the colours of the page. */
async function picture(box, format, width = Math.max(box.clientWidth, 900)) {
  const { data, layout } = drawing(box.figure, width, true);
  layout.margin.t += 30;
  layout.height += 30;
  layout.legend.y = 1 - 30 / layout.height;
  layout.title = { text: box.figure.title, x: 0, xref: "container", xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { t: 8, l: 8 }, font: { size: 15 } };
  return Plotly.toImage({ data, layout }, { format, width, height: layout.height, scale: format === "png" ? 2 : 1 });
}
for (const button of document.querySelectorAll("button[data-save]")) {
  button.addEventListener("click", async () => {
    const box = document.getElementById(button.dataset.chart);
    const link = document.createElement("a");
    link.href = await picture(box, button.dataset.save);
    link.download = `${box.figure.name}.${button.dataset.save}`;
    link.click();
  });
}
