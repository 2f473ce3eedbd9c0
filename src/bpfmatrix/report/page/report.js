"use strict";
(async () => {
const $ = id => document.getElementById(id);
// All that comes from a result is set as text: nothing here writes HTML.
const make = (tag, cls, text) => {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
};
const unpack = async base64 => {
  const bytes = Uint8Array.from(atob(base64.trim()), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
};
const WORDS = {p: "passed", f: "failed", s: "skipped", t: "timeout", k: "panic", l: "lost", e: "error", i: "interrupted"};
const MARKS = {p: "✓", f: "✗", s: "–", t: "T", k: "P", l: "L", e: "E", i: "I"};
const ROW = 28;
let data;
try {
  data = await unpack($("data").textContent);
} catch (error) {
  $("failed").hidden = false;
  $("failed").textContent = "This report could not be unpacked: it needs a browser with DecompressionStream (since 2023). " + error;
  return;
}
const {columns, groups, rows, strings} = data;
// Statistics are kept as steps from one kernel to the next.
const statistics = {};
for (const [name, steps] of Object.entries(data.statistics)) {
  const last = new Array(rows.length).fill(0);
  statistics[name] = steps.map(step => step.map((d, r) => d === null ? null : (last[r] += d)));
}
const insns = statistics.instructions_processed;
const blocks = document.getElementsByClassName("block"), unpacked = new Map();
const textOf = async number => {
  let b = data.blocks.length - 1;
  while (data.blocks[b] > number) b--;
  if (!unpacked.has(b)) unpacked.set(b, unpack(blocks[b].textContent));
  return (await unpacked.get(b))[number - data.blocks[b]];
};
const get = (c, key, r) => { const n = columns[c][key][r]; return n === undefined ? "" : strings[n]; };
const letter = (c, r) => columns[c].cells[r];
const kindOf = (c, r) => { const l = letter(c, r); return l !== "s" && get(c, "expected", r) ? "x" : l; };
const wordOf = (c, r) => {
  const l = letter(c, r), expected = get(c, "expected", r);
  if (l === ".") return "not run";
  return WORDS[l] + (expected ? (l === "p" ? ", not as expected" : " as expected") : "");
};
const short = n => n < 1000 ? String(n) : n < 9950 ? (n / 1e3).toFixed(1) + "k" : n < 999500 ? Math.round(n / 1e3) + "k" : (n / 1e6).toFixed(1) + "M";

// ---- filters, which the address keeps ------------------------------------------------------
const state = {q: "", o: new Set(), k: new Set(), differ: false, view: "outcome", cell: null};
const hay = rows.map(([g, name], r) => {
  const parts = [name, groups[g][1]];
  columns.forEach((c, i) => { for (const key of ["reason", "code", "expected", "source"]) parts.push(get(i, key, r)); });
  return [...new Set(parts)].join("\n").toLowerCase();
});
const readHash = () => {
  const p = new URLSearchParams(location.hash.slice(1));
  state.q = p.get("q") || "";
  state.o = new Set((p.get("o") || "").split("").filter(l => WORDS[l]));
  state.k = new Set(p.getAll("k").map(l => columns.findIndex(c => c.label === l)).filter(i => i >= 0));
  state.differ = p.has("differ");
  state.view = [insns ? "insns" : "", "time"].includes(p.get("view")) ? p.get("view") || "outcome" : "outcome";
  state.cell = null;
  const c = columns.findIndex(c => c.label === p.get("kernel"));
  if (c >= 0) {
    const kind = Number(p.get("kind") || 0);
    const r = p.has("name") ? rows.findIndex(([g, n]) => n === p.get("name") && groups[g][1] === p.get("group") && groups[g][0] === kind) : -1;
    if (r >= 0 || !p.has("name")) state.cell = [c, r];
  }
};
const writeHash = () => {
  const p = new URLSearchParams();
  if (state.q) p.set("q", state.q);
  if (state.o.size) p.set("o", [...state.o].join(""));
  for (const i of state.k) p.append("k", columns[i].label);
  if (state.differ) p.set("differ", "1");
  if (state.view !== "outcome") p.set("view", state.view);
  if (state.cell) {
    const [c, r] = state.cell;
    p.set("kernel", columns[c].label);
    if (r >= 0) { const g = groups[rows[r][0]]; p.set("kind", g[0]); p.set("group", g[1]); p.set("name", rows[r][1]); }
  }
  const hash = String(p) ? "#" + p : "";
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
};

// ---- the matrix: only the rows in sight are in the document --------------------------------
const grid = $("grid");
let visible = [], lines = [], drawn = new Map(), space, cursor = [0, 0];
const filter = () => {
  visible = columns.map((_, i) => i).filter(i => !state.k.size || state.k.has(i));
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  rows.forEach((_, r) => {
    if (!words.every(w => hay[r].includes(w))) return;
    if (state.view === "insns" && insns.every(one => one[r] === null)) return;
    const ls = visible.map(c => letter(c, r));
    if (state.k.size && ls.every(l => l === ".")) return;
    if (state.o.size && !ls.some(l => state.o.has(l))) return;
    if (state.differ && new Set(ls).size < 2) return;
    found.push(r);
  });
  lines = [];
  let group = -1;
  for (const r of found) {
    if (rows[r][0] !== group) { group = rows[r][0]; lines.push(-1 - group); }
    lines.push(r);
  }
  $("shown").textContent = found.length === rows.length ? `${rows.length} rows` : `${found.length} of ${rows.length} rows`;
  $("empty").hidden = found.length > 0;
  grid.hidden = !found.length;
  cursor = [Math.min(cursor[0], Math.max(0, lines.length - 1)), Math.min(cursor[1], Math.max(0, visible.length - 1))];
  layout();
};
const heat = (value, low, high) => high > low ? Math.log(value / low + 1e-9) / Math.log(high / low) : 0;
const layout = () => {
  const main = grid.parentElement, padding = parseFloat(getComputedStyle(main).paddingLeft) * 2;
  const width = main.clientWidth - padding - 20;
  const phone = document.body.clientWidth <= 640;
  const name = phone ? 150 : Math.min(380, Math.max(220, width * 0.3));
  const low = state.view === "outcome" ? 26 : 42;
  const col = Math.max(low, Math.min(110, Math.floor((width - name) / Math.max(1, visible.length))));
  grid.style.setProperty("--name", name + "px");
  grid.style.setProperty("--col", col + "px");
  grid.classList.toggle("tight", col < 66);
  grid.setAttribute("aria-rowcount", lines.length + 1);
  grid.setAttribute("aria-colcount", visible.length + 1);
  const head = make("div", "head");
  head.setAttribute("role", "row");
  head.style.display = "flex";
  head.style.width = "max-content";
  const corner = make("div", "corner", "");
  corner.setAttribute("role", "columnheader");
  corner.setAttribute("aria-label", "name");
  head.append(corner);
  for (const c of visible) {
    const b = make("button", "kernel");
    b.type = "button";
    b.setAttribute("role", "columnheader");
    b.setAttribute("aria-label", `${columns[c].label}: ${WORDS[columns[c].outcome]}`);
    b.title = columns[c].label;
    b.append(make("span", "text", columns[c].label), make("span", "bar " + columns[c].outcome));
    b.onclick = () => open(c, -1);
    head.append(b);
  }
  space = make("div");
  space.id = "space";
  space.setAttribute("role", "rowgroup");
  space.style.height = lines.length * ROW + "px";
  space.style.width = name + col * visible.length + "px";
  drawn = new Map();
  grid.replaceChildren(head, space);
  grid.style.height = lines.length * ROW + head.offsetHeight + (name + col * visible.length > width ? 20 : 4) + "px";
  grid.style.width = name + col * visible.length + 20 + "px";
  draw();
};
const line = i => {
  const r = lines[i], e = make("div", "row");
  e.setAttribute("role", "row");
  e.setAttribute("aria-rowindex", i + 2);
  e.style.top = i * ROW + "px";
  const name = make("div", r < 0 ? "name group" : "name");
  name.setAttribute("role", "rowheader");
  e.append(name);
  if (r < 0) {
    const [kind, text] = groups[-1 - r];
    name.textContent = text || (kind ? "programs" : "tests");
    name.append(make("small", "", kind ? "programs" : "tests"));
    name.title = text;
    return e;
  }
  name.textContent = rows[r][1] || "(no name)";
  name.title = rows[r][1];
  const values = state.view === "outcome" ? [] : visible.map(c => number(c, r)).filter(v => v > 0);
  const low = Math.min(...values), high = Math.max(...values, low * 4);
  visible.forEach((c, at) => {
    const l = letter(c, r), b = make(l === "." ? "div" : "button", "cell");
    b.setAttribute("role", "gridcell");
    if (l === ".") { b.setAttribute("aria-label", "not run"); e.append(b); return; }
    const inside = make("span");
    let extra = "";
    if (state.view === "outcome") {
      inside.className = kindOf(c, r);
      inside.textContent = MARKS[l] + (get(c, "expected", r) ? "*" : "");
    } else {
      b.classList.add("num");
      const v = number(c, r);
      if (v === null) { inside.className = kindOf(c, r); inside.textContent = MARKS[l]; }
      else {
        inside.textContent = state.view === "time" ? time(v) : short(v);
        extra = ", " + inside.textContent;
        inside.style.background = `rgba(var(--heat),${(0.08 + 0.37 * Math.max(0, Math.min(1, heat(v, low, high)))).toFixed(2)})`;
      }
    }
    b.type = "button";
    b.tabIndex = i === cursor[0] && at === cursor[1] ? 0 : -1;
    b.dataset.line = i;
    b.dataset.at = at;
    const label = `${rows[r][1]}, ${columns[c].label}: ${wordOf(c, r)}${extra}`;
    b.setAttribute("aria-label", label);
    const why = get(c, "expected", r) || get(c, "reason", r);
    b.title = `${columns[c].label}: ${wordOf(c, r)}${why ? ": " + why : ""}`;
    b.append(inside);
    e.append(b);
  });
  return e;
};
const number = (c, r) => state.view === "time" ? columns[c].ms[r] : insns ? insns[c][r] : null;
const time = ms => ms < 1000 ? ms + "ms" : (ms / 1000).toFixed(1) + "s";
const draw = () => {
  const from = Math.max(0, Math.floor(grid.scrollTop / ROW) - 8);
  const to = Math.min(lines.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + 8);
  for (const [i, e] of drawn) if ((i < from || i >= to) && !e.contains(document.activeElement)) { e.remove(); drawn.delete(i); }
  const fresh = [];
  for (let i = from; i < to; i++) if (!drawn.has(i)) { const e = line(i); drawn.set(i, e); fresh.push(e); }
  space.append(...fresh);
  if (!space.querySelector("[tabindex='0']")) { const first = space.querySelector("button.cell"); if (first) first.tabIndex = 0; }
};
let pending = false;
grid.addEventListener("scroll", () => {
  if (!pending) { pending = true; requestAnimationFrame(() => { pending = false; draw(); }); }
}, {passive: true});
addEventListener("resize", () => layout());

const focusCell = (i, at, down) => {
  // A heading has no cells, and a row may have some that were not run.
  while (i >= 0 && i < lines.length && lines[i] < 0) i += down < 0 ? -1 : 1;
  if (i < 0 || i >= lines.length) return;
  const r = lines[i];
  const place = drawn.get(i) || line(i);
  if (!drawn.has(i)) { drawn.set(i, place); space.append(place); }
  const top = i * ROW, head = grid.firstChild.offsetHeight;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + ROW + head > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + ROW + head - grid.clientHeight;
  const there = [...place.querySelectorAll("button.cell")];
  const target = there.reduce((best, b) => !best || Math.abs(b.dataset.at - at) < Math.abs(best.dataset.at - at) ? b : best, null);
  if (!target || r === undefined) return;
  const old = space.querySelector("[tabindex='0']");
  if (old) old.tabIndex = -1;
  cursor = [i, Number(target.dataset.at)];
  target.tabIndex = 0;
  target.focus({preventScroll: true});
  target.scrollIntoView({block: "nearest", inline: "nearest"});
};
grid.addEventListener("keydown", event => {
  const b = event.target.closest("button.cell");
  if (!b) return;
  const i = Number(b.dataset.line), at = Number(b.dataset.at), page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 3);
  const move = {ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [page, 0], PageUp: [-page, 0]}[event.key];
  if (move) focusCell(Math.max(0, Math.min(lines.length - 1, i + move[0])), at + move[1], move[0]);
  else if (event.key === "Home") focusCell(event.ctrlKey ? 0 : i, 0, 1);
  else if (event.key === "End") focusCell(event.ctrlKey ? lines.length - 1 : i, visible.length - 1, -1);
  else return;
  event.preventDefault();
});
grid.addEventListener("click", event => {
  const b = event.target.closest("button.cell");
  if (!b) return;
  cursor = [Number(b.dataset.line), Number(b.dataset.at)];
  open(visible[cursor[1]], lines[cursor[0]]);
});

// ---- one cell, or one kernel ---------------------------------------------------------------
const panel = $("panel"), inside = $("inside");
const list = pairs => {
  const dl = make("dl");
  for (const [name, value] of pairs) dl.append(make("dt", "", name), make("dd", "", value));
  return dl;
};
const textBlock = (title, numbers) => {
  const part = [];
  for (const n of numbers) {
    const pre = make("pre", "", "…");
    pre.tabIndex = 0;
    pre.setAttribute("role", "region");
    pre.setAttribute("aria-label", title);
    textOf(n).then(t => { pre.textContent = t; pre.dataset.ready = "1"; });
    part.push(make("h3", "", title), pre);
  }
  return part;
};
const NAMES = {verifier_us: "verifier time, µs", instructions_processed: "instructions processed", instructions_limit: "limit of instructions", jited_bytes: "JIT size, bytes", translated_bytes: "translated size, bytes", memory_bytes: "memory, bytes", stack_depth: "stack depth, bytes", program_instructions: "program, instructions"};
const bars = (here, r) => {
  const values = columns.map((_, c) => insns ? insns[c][r] : null);
  const most = Math.max(0, ...values.filter(v => v !== null));
  if (!most) return [];
  const box = make("div", "bars");
  columns.forEach((column, c) => {
    if (values[c] === null) return;
    const b = make("button", c === here ? "here" : "", column.label);
    b.type = "button";
    b.onclick = () => open(c, r);
    const track = make("div", "track"), fill = make("div", "fill");
    fill.style.width = (100 * values[c] / most) + "%";
    track.append(fill);
    box.append(b, track, make("span", "num", values[c].toLocaleString("en")));
  });
  return [make("h3", "", "Instructions processed, by kernel"), box];
};
const open = (c, r) => {
  state.cell = [c, r];
  writeHash();
  const column = columns[c], close = make("button", "close", "Close");
  close.type = "button";
  close.onclick = () => panel.close();
  const title = make("h2", "", r < 0 ? column.label : rows[r][1] || "(no name)");
  title.id = "what";
  const parts = [close, title];
  if (r < 0) {
    const counts = {};
    for (const l of column.cells) if (l !== ".") counts[WORDS[l]] = (counts[WORDS[l]] || 0) + 1;
    parts.push(make("span", "badge " + column.outcome, WORDS[column.outcome]));
    for (const why of column.reasons) parts.push(make("p", "why", why));
    parts.push(list([...Object.entries(counts), ...column.facts]));
  } else {
    const l = letter(c, r), expected = get(c, "expected", r), reason = get(c, "reason", r);
    parts.push(make("p", "sub", `${column.label} · ${groups[rows[r][0]][1]}`));
    parts.push(l === "." ? make("span", "badge s", "not run") : make("span", "badge " + kindOf(c, r), wordOf(c, r)));
    if (reason) parts.push(make("p", "why", reason));
    const ms = column.ms[r];
    const facts = [["code", get(c, "code", r)], ["error", get(c, "errno", r)], ["source", get(c, "source", r)], ["expected, as", expected], ["took", ms === null ? "" : time(ms)], ...data.facts[r], ["log", get(c, "paths", r)]];
    parts.push(list(facts.filter(f => f[1])));
    parts.push(...bars(c, r));
    const told = Object.entries(statistics).filter(([, v]) => v[c][r] !== null).map(([n, v]) => [NAMES[n] || n.replaceAll("_", " "), v[c][r].toLocaleString("en")]);
    if (told.length) parts.push(make("h3", "", "Statistics"), list(told));
    const program = groups[rows[r][0]][0];
    const has = key => column[key][r] === undefined ? [] : [column[key][r]];
    parts.push(...textBlock(program ? "What the verifier said last" : "Output", has("output")));
    parts.push(...textBlock("Verifier log", has("log")));
  }
  parts.push(...textBlock("Console", column.consoles));
  inside.replaceChildren(...parts);
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  close.focus();
};
panel.addEventListener("close", () => {
  state.cell = null;
  writeHash();
  const b = space.querySelector(`button.cell[data-line='${cursor[0]}'][data-at='${cursor[1]}']`);
  if (b) b.focus({preventScroll: true});
});
panel.addEventListener("click", event => { if (event.target === panel) panel.close(); });

// ---- what is above the matrix --------------------------------------------------------------
const counts = {};
for (const c of columns) for (const l of c.cells) if (l !== ".") counts[l] = (counts[l] || 0) + 1;
for (const l of Object.keys(WORDS)) {
  if (!counts[l]) continue;
  const b = make("button", "");
  b.type = "button";
  b.dataset.letter = l;
  b.append(make("i", l), `${WORDS[l]} ${counts[l].toLocaleString("en")}`);
  b.onclick = () => { if (!state.o.delete(l)) state.o.add(l); update(); };
  $("outcomes").append(b);
}
columns.forEach((c, i) => {
  const label = make("label"), box = make("input");
  box.type = "checkbox";
  box.onchange = () => { if (!state.k.delete(i)) state.k.add(i); update(); };
  label.append(box, c.label);
  document.querySelector("#kernels .menu").append(label);
});
const view = $("view");
if (insns) view.append(new Option("instructions", "insns"));
view.append(new Option("time", "time"));
const show = () => {
  if ($("text").value !== state.q) $("text").value = state.q;
  $("differ").checked = state.differ;
  view.value = state.view;
  for (const b of $("outcomes").children) b.setAttribute("aria-pressed", state.o.has(b.dataset.letter));
  document.querySelectorAll("#kernels input").forEach((box, i) => { box.checked = state.k.has(i); });
  document.querySelector("#kernels b").textContent = state.k.size ? state.k.size : "";
};
const update = () => { show(); writeHash(); filter(); };
$("text").oninput = event => { state.q = event.target.value; update(); };
$("differ").onchange = event => { state.differ = event.target.checked; update(); };
view.onchange = () => { state.view = view.value; update(); };
$("reset").onclick = () => { Object.assign(state, {q: "", o: new Set(), k: new Set(), differ: false, view: "outcome"}); update(); };
document.addEventListener("click", event => { const k = $("kernels"); if (k.open && !k.contains(event.target)) k.open = false; });
document.addEventListener("keydown", event => {
  if (event.key === "Escape" && $("kernels").open) { $("kernels").open = false; document.querySelector("#kernels summary").focus(); }
  if (event.key === "/" && !panel.open && document.activeElement !== $("text")) { event.preventDefault(); $("text").focus(); }
});
const themes = ["", "light", "dark"];
$("theme").onclick = () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme || "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
  $("theme").setAttribute("aria-label", "Colours: " + (next || "as the system"));
};
const start = () => {
  readHash();
  show();
  filter();
  if (state.cell) {
    const [c, r] = state.cell, i = lines.indexOf(r);
    if (i >= 0) { cursor = [i, visible.indexOf(c)]; grid.scrollTop = Math.max(0, i * ROW - grid.clientHeight / 2); draw(); }
    open(c, r);
  } else if (panel.open) panel.close();
};
addEventListener("hashchange", start);
$("filters").hidden = false;
start();
document.documentElement.dataset.ready = "1";
})();
