"use strict";
// Follows the runs of a database: asks every few seconds for what it lacks, keeps what it has, and draws by figures.js.
const LINE_COLOURS = JSON.parse(document.getElementById("line-colours").textContent);
const CURVES = [["loss", "loss", "Loss"], ["gap", "gap of the training batch", "Gap of the training batch"], ["temperature", "temperature τ", "Temperature τ"]];
const runs = new Map(); // by id: the last state of a run, with all its points and results
const colours = new Map(); // by recipe, in the order in which they were first seen
const chart = document.getElementById("chart-live");
const at = (id) => document.getElementById(id);
const minus = (text) => text.replace("-", "−");
const number = (value, digits = 3) => minus(Number(value).toPrecision(digits).replace(/e\+?/, " × 10^"));
const whole = (value) => Math.round(value).toLocaleString("en");
const counted = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
const colourOf = (recipe) => colours.get(recipe) ?? (colours.set(recipe, LINE_COLOURS[colours.size % LINE_COLOURS.length]), colours.get(recipe));
const last = (values) => values?.findLast((value) => value !== null);

function span(seconds) {
  const [s, m, h] = [Math.round(seconds), Math.round(seconds / 60), Math.floor(seconds / 3600)];
  return s < 90 ? `${s} s` : m < 90 ? `${m} min` : h < 48 ? `${h} h ${Math.round((seconds - 3600 * h) / 60)} min` : `${Math.round(h / 24)} days`;
}

function make(tag, text = "", name = "") {
  const found = document.createElement(tag);
  found.textContent = text;
  if (name) found.className = name;
  return found;
}

/* What is new joins what is here; a run of which nothing is shown any more goes. */
function take(answer) {
  for (const [id, state] of Object.entries(answer.runs)) {
    const before = runs.get(id);
    const kept = state.points?.after === -1 ? null : before?.points;
    if (state.points) for (const name of ["step", ...CURVES.map((c) => c[0])]) state.points[name] = [...(kept?.[name] ?? []), ...state.points[name]];
    state.points ??= before?.points;
    state.results ??= before?.results ?? [];
    runs.set(id, state);
  }
  const shown = new Set([...answer.going, ...answer.finished, ...answer.stopped]);
  for (const id of runs.keys()) if (!shown.has(id)) runs.delete(id);
}

const passed = (answer, moment) => span((Date.parse(answer.now) - Date.parse(moment)) / 1000);
const ending = (run) => run.finished ?? run.heartbeat ?? run.started;
const took = (run) => (run.started && ending(run) ? span((Date.parse(ending(run)) - Date.parse(run.started)) / 1000) : "–");

function said(answer) {
  const { running, waiting } = answer;
  at("said").textContent = running || waiting
    ? `${running ? `${counted(running, "run")} ${running === 1 ? "is" : "are"} going on` : "Nothing is running"}${waiting ? `, ${whole(waiting)} ${waiting === 1 ? "waits" : "wait"}` : ""}.`
    : nothing(answer);
  document.title = `${running ? `${whole(running)} running` : "nothing runs"} · ${answer.database}`;
}

function nothing(answer) {
  const ended = [...answer.finished, ...answer.stopped].sort((a, b) => Date.parse(ending(runs.get(b))) - Date.parse(ending(runs.get(a))));
  if (!ended.length) return "Nothing is running, and nothing has run yet: gaprun train RECIPE begins a run.";
  const run = runs.get(ended[0]);
  return `Nothing is running. The last was ${ended[0]}: ${run.status} ${passed(answer, ending(run))} ago, after ${took(run)}.`;
}

function job(id) {
  const run = runs.get(id);
  const line = make("article", "", `job ${run.phase}${run.quiet ? " quiet" : ""}`);
  line.dataset.run = id;
  const head = make("h3");
  const sign = make("i", "", "sign");
  if (run.points) sign.style.background = shade(colourOf(run.recipe));
  head.append(sign, id, make("span", run.phase, "phase"));
  const middle = make("div");
  const facts = make("p", "", "facts");
  if (run.total && run.phase !== "waiting") {
    const bar = make("div", "", "bar");
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuenow", String(Math.round((100 * run.step) / run.total)));
    bar.setAttribute("aria-label", id);
    const full = make("i");
    full.style.width = `${Math.min(100, (100 * run.step) / run.total)}%`;
    bar.append(full);
    middle.append(bar);
    facts.append(make("span", `step ${whole(run.step)} of ${whole(run.total)}`));
  }
  if (run.rate) facts.append(make("span", `${number(run.rate)} steps/s`));
  if (run.left !== null) facts.append(make("span", `${span(run.left)} left`));
  middle.append(facts);
  const values = make("p", "", "facts");
  const loss = run.loss ?? last(run.points?.loss);
  for (const [name, value] of [["loss", loss], ["batch gap", last(run.points?.gap)], ["τ", last(run.points?.temperature)]]) {
    if (value !== null && value !== undefined) values.append(make("span", `${name} ${number(value)}`));
  }
  if (run.waiting !== null) values.append(make("span", `${Math.round(100 * run.waiting)} % of the time waiting for data`));
  if (run.quiet) values.append(make("span", `no step for ${span(run.quiet)}: it measures, saves, or hangs`, "late"));
  line.append(head, middle, values);
  return line;
}

function stop(answer, id) {
  const run = runs.get(id);
  const line = make("li", "", run.status);
  line.append(make("b", id), " ", make("small", `${run.status} ${passed(answer, ending(run))} ago`), make("span", run.error ?? "it does not say why", "why"));
  return line;
}

function results(answer) {
  const columns = new Map();
  for (const id of answer.finished) for (const one of runs.get(id).results) columns.set(`${one.metric} ${one.place}`, one);
  const head = make("tr");
  for (const name of ["run", "ended", "took"]) head.append(make("th", name));
  for (const one of columns.values()) {
    const cell = make("th", one.metric);
    cell.append(make("small", one.place));
    head.append(cell);
  }
  const rows = answer.finished.map((id) => {
    const run = runs.get(id);
    const row = make("tr");
    row.append(make("td", id), make("td", `${passed(answer, ending(run))} ago`), make("td", took(run)));
    for (const key of columns.keys()) row.append(make("td", run.results.find((one) => `${one.metric} ${one.place}` === key)?.text ?? "–"));
    return row;
  });
  at("finished").querySelector("thead").replaceChildren(head);
  at("finished").querySelector("tbody").replaceChildren(...rows);
}

function panels(answer) {
  const going = new Set(answer.going);
  const faint = (id) => answer.running > 0 && !going.has(id);
  const order = answer.drawn.toReversed().sort((a, b) => faint(b) - faint(a)); // what goes on lies over what is over
  const found = new Map();
  const put = (key, title, words, log, id, x, y, few = false) => {
    const run = runs.get(id);
    const points = x.map((step, n) => [step, y[n]]).filter(([, value]) => value !== null);
    if (!points.length) return;
    if (!found.has(key)) found.set(key, { title, x: { words: "training step + 1", log: chart.figure.panels[0].x.log }, y: { words, log }, marks: [] });
    const mark = { name: run.recipe, x: points.map((p) => p[0]), y: points.map((p) => p[1]), text: points.map(() => id), colour: colourOf(run.recipe),
      kind: points.length < 2 ? "points" : few ? "both" : "line", symbol: "circle", size: 6, listed: true, faint: faint(id) };
    found.get(key).marks.push(mark);
  };
  for (const [key, words, title] of CURVES) {
    for (const id of order) {
      const { points, at: step, loss } = runs.get(id);
      if (!points) continue;
      const live = key === "loss" && loss !== null && step - 1 > (points.step.at(-1) ?? -1);
      put(key, title, words, key === "temperature", id, [...points.step.map((s) => s + 1), ...(live ? [step] : [])], [...points[key], ...(live ? [loss] : [])]);
    }
  }
  for (const id of order) {
    for (const one of runs.get(id).results) {
      if (one.steps.length > 1) put(`${one.metric} ${one.place}`, `${one.metric} on ${one.place}`, one.title, false, id, one.steps.map((s) => s + 1), one.values, true);
    }
  }
  return [...found.values()];
}

function curves(answer) {
  const drawn = panels(answer);
  at("curves").hidden = !drawn.length;
  if (!drawn.length) return;
  const names = [...new Set(drawn.flatMap((panel) => panel.marks.map((mark) => mark.name)))];
  chart.figure.panels = drawn;
  chart.figure.uirevision = String(drawn[0].x.log);
  if (names.join() !== chart.dataset.names) {
    chart.dataset.names = names.join();
    if (chart.previousElementSibling?.matches(".legend")) chart.previousElementSibling.remove();
    chart.colours = [];
    legendOf(chart);
  }
  const words = drawn.map((panel) => `${panel.title}: ${panel.marks.map((mark) => `${mark.text[0]} ${number(mark.y.at(-1))}`).join(", ")}`).join(". ");
  chart.setAttribute("aria-label", words);
  chart.parentElement.querySelector(".words p").textContent = `${words}.`;
  drawAll([chart]);
  const over = answer.drawn.filter((id) => !answer.going.includes(id)).length;
  const cut = answer.running - (answer.drawn.length - over);
  at("behind").hidden = !answer.running || !(over || cut);
  at("behind").textContent = [over ? "Thin and pale: what ended within a day." : "", cut > 0 ? `Of ${counted(cut, "more run")} that go on there are no curves.` : ""].join(" ");
}

function show(answer) {
  said(answer);
  at("jobs").replaceChildren(...answer.going.map(job));
  const more = answer.running + answer.waiting - answer.going.length;
  at("more").hidden = more <= 0;
  at("more").textContent = `${counted(more, "more run")} not shown here: gaprun runs list.`;
  at("stopped").hidden = !answer.stopped.length;
  at("stops").replaceChildren(...answer.stopped.map((id) => stop(answer, id)));
  at("finished").hidden = !answer.finished.length;
  results(answer);
  curves(answer);
}

async function ask() {
  const has = new URLSearchParams([...runs].map(([id, run]) => [id, run.mark]));
  let wait = 2;
  try {
    const reply = await fetch(`new?${has}`, { cache: "no-store" });
    const answer = await reply.json();
    if (!reply.ok) throw new Error(answer.error);
    take(answer);
    show(answer);
    wait = answer.wait;
    at("trouble").hidden = true;
  } catch (error) {
    at("trouble").hidden = false;
    const why = error instanceof TypeError ? "gaprun watch does not answer: it has ended, or this page is no longer connected to it" : error.message;
    at("trouble").textContent = `${why}. What stands here is what was last known.`;
  }
  setTimeout(next, 1000 * wait);
}

/* A page that nobody looks at asks for nothing. */
const next = () => (document.hidden ? document.addEventListener("visibilitychange", next, { once: true }) : ask());
scheme.addEventListener("change", () => document.querySelectorAll(".job .sign").forEach((sign) => { sign.style.background = sign.style.background && shade(colourOf(runs.get(sign.closest(".job").dataset.run).recipe)); }));
next();
