// The panel at the side: all about one cell, or about one kernel.

import { byId, createButton, createElement } from "./dom.js";
import { duration, fullCount } from "./numbers.js";
import { countOutcomes, isRun, OUTCOMES, outcomeClass, outcomeText } from "./outcomes.js";
import { columns, detailAt, instructions, longText, rows, statistics } from "./report.js";
import { state, writeAddress } from "./state.js";

const STATISTIC_NAMES = {
  verifier_us: "verifier time, µs",
  instructions_processed: "instructions processed",
  instructions_limit: "instruction limit",
  jited_bytes: "JIT size, bytes",
  translated_bytes: "translated size, bytes",
  memory_bytes: "memory, bytes",
  stack_depth: "stack depth, bytes",
  program_instructions: "program size, instructions",
};

export const panel = byId("panel");

export function setUpPanel() {
  panel.addEventListener("close", () => {
    state.panel = null;
    writeAddress();
  });
  panel.addEventListener("click", (event) => {
    // A click on the dialog itself, and on nothing in it, is one on the backdrop.
    if (event.target === panel) panel.close();
  });
}

/** Show a cell; the kernel itself if `row` is null. */
export function openPanel(column, row) {
  state.panel = { column, row };
  writeAddress();
  const close = createButton("close", "Close");
  close.onclick = () => panel.close();
  const name = row === null ? columns[column].label : rows[row].name || "(no name)";
  const title = createElement("h2", "", name);
  title.id = "panel-title";
  byId("inside").replaceChildren(
    close,
    title,
    ...(row === null ? describeKernel(columns[column]) : describeCell(column, row)),
    ...createTexts("Console", columns[column].consoles),
  );
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  close.focus();
}

function describeKernel(kernel) {
  const { word } = OUTCOMES[kernel.outcome];
  const counts = [...countOutcomes([kernel])].map(([letter, count]) => [
    OUTCOMES[letter].word,
    count,
  ]);
  return [
    createElement("span", `badge ${word}`, word),
    ...kernel.reasons.map((reason) => createElement("p", "why", reason)),
    createList([...counts, ...kernel.facts]),
  ];
}

function describeCell(column, row) {
  const { group } = rows[row];
  const badge = isRun(column, row) ? outcomeClass(column, row) : "skipped";
  const reason = detailAt(column, row, "reason");
  return [
    createElement("p", "sub", `${columns[column].label} · ${group.name}`),
    createElement("span", `badge ${badge}`, outcomeText(column, row)),
    ...(reason ? [createElement("p", "why", reason)] : []),
    createList(cellFacts(column, row)),
    ...createBars(column, row),
    ...createStatistics(column, row),
    ...createTexts(
      group.isProgram ? "End of the verifier log" : "Output",
      longTextsOf(column, row, "output"),
    ),
    ...createTexts("Verifier log", longTextsOf(column, row, "log")),
  ];
}

function cellFacts(column, row) {
  const milliseconds = columns[column].ms[row];
  const facts = [
    ["code", detailAt(column, row, "code")],
    ["error", detailAt(column, row, "errno")],
    ["source", detailAt(column, row, "source")],
    ["expected because", detailAt(column, row, "expected")],
    ["took", milliseconds === null ? "" : duration(milliseconds)],
    ...rows[row].facts,
    ["log", detailAt(column, row, "paths")],
  ];
  return facts.filter(([, value]) => value);
}

function createList(facts) {
  const list = createElement("dl");
  for (const [name, value] of facts) {
    list.append(createElement("dt", "", name), createElement("dd", "", String(value)));
  }
  return list;
}

function createStatistics(column, row) {
  const facts = Object.entries(statistics)
    .filter(([, values]) => values[column][row] !== null)
    .map(([name, values]) => [
      STATISTIC_NAMES[name] ?? name.replaceAll("_", " "),
      fullCount(values[column][row]),
    ]);
  return facts.length ? [createElement("h3", "", "Statistics"), createList(facts)] : [];
}

// The instructions that the verifier processed for one program, on each kernel that has a number.
function createBars(shownColumn, row) {
  const counts = columns.map((_, column) => instructions?.[column][row] ?? null);
  const most = Math.max(...counts);
  if (most <= 0) return [];
  const bars = createElement("div", "bars");
  for (const [column, count] of counts.entries()) {
    if (count === null) continue;
    const className = column === shownColumn ? "kernel-name here" : "kernel-name";
    const button = createButton(className, columns[column].label);
    button.onclick = () => openPanel(column, row);
    const track = createElement("div", "track");
    const fill = createElement("div", "fill");
    fill.style.width = `${(100 * count) / most}%`;
    track.append(fill);
    bars.append(button, track, createElement("span", "count", fullCount(count)));
  }
  return [createElement("h3", "", "Instructions processed, by kernel"), bars];
}

function longTextsOf(column, row, key) {
  const number = columns[column][key][row];
  return number === undefined ? [] : [number];
}

// Long texts by their numbers, each under the same title. Each is filled in when it is unpacked.
function createTexts(title, numbers) {
  return numbers.flatMap((number) => {
    const block = createElement("pre", "", "…");
    block.tabIndex = 0;
    block.setAttribute("role", "region");
    block.setAttribute("aria-label", title);
    longText(number).then((text) => {
      block.textContent = text;
      block.dataset.ready = "1";
    });
    return [createElement("h3", "", title), block];
  });
}
