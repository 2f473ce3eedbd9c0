// All about one cell, for the panel: why it failed and what to do come first.

import { createCommand } from "./copy.js";
import { createElement } from "./dom.js";
import { duration, fullCount } from "./numbers.js";
import { createBadge, createLink, createList, createTexts } from "./parts.js";
import { columns, detailAt, instructions, rows, statistics } from "./report.js";

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

/** The elements that describe a cell. */
export function describeCell(column, row) {
  const { group } = rows[row];
  const where = createElement("p", "sub");
  where.append(
    createLink("", columns[column].label, column, null),
    " · ",
    createLink("", "on all kernels", null, row),
    ` · ${group.name}`,
  );
  return [
    where,
    createBadge(column, row),
    ...createReason(column, row),
    ...createTexts("Why it did not load", longTextsOf(column, row, "explanation")),
    ...(group.isProgram ? createOutput(column, row) : []),
    ...createExplanation(detailAt(column, row, "code")),
    ...createCommands(column, row),
    ...(group.isProgram ? [] : createOutput(column, row)),
    ...createBars(column, row),
    ...createStatistics(column, row),
    createElement("h3", "", "Facts"),
    createList(cellFacts(column, row)),
    ...createTexts("Verifier log", longTextsOf(column, row, "log")),
  ];
}

function createReason(column, row) {
  const expected = detailAt(column, row, "expected");
  const texts = [
    ["why", detailAt(column, row, "reason")],
    ["source", detailAt(column, row, "source")],
    ["soft", expected && `kernels.yaml expects this: ${expected}`],
  ];
  return texts.filter(([, text]) => text).map(([style, text]) => createElement("p", style, text));
}

function createOutput(column, row) {
  const title = rows[row].group.isProgram ? "End of the verifier log" : "Output";
  return createTexts(title, longTextsOf(column, row, "output"));
}

// What a reason code means: the template has a text for each code of the report.
function createExplanation(code) {
  if (!code) return [];
  const paragraph = createElement("p", "explanation");
  paragraph.append(createElement("code", "", code), " ");
  const found = [...document.querySelectorAll("template.code")].find(
    (template) => template.dataset.code === code,
  );
  if (found) paragraph.append(found.content.cloneNode(true));
  return [paragraph];
}

function createCommands(column, row) {
  const text = detailAt(column, row, "commands");
  if (!text) return [];
  const list = createElement("dl", "commands");
  for (const line of text.split("\n")) {
    const [purpose, words] = line.split("\t");
    const value = createElement("dd");
    value.append(...createCommand(words));
    list.append(createElement("dt", "", purpose), value);
  }
  return [createElement("h3", "", "Next commands"), list];
}

function cellFacts(column, row) {
  const milliseconds = columns[column].ms[row];
  const facts = [
    ["error", detailAt(column, row, "errno")],
    ["took", milliseconds === null ? "" : duration(milliseconds)],
    ...rows[row].facts,
    ["log", detailAt(column, row, "paths")],
  ];
  return facts.filter(([, value]) => value);
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
    const link = createLink(
      column === shownColumn ? "here" : "",
      columns[column].label,
      column,
      row,
    );
    const track = createElement("div", "track");
    const fill = createElement("div", "fill");
    fill.style.width = `${(100 * count) / most}%`;
    track.append(fill);
    bars.append(link, track, createElement("span", "count", fullCount(count)));
  }
  return [createElement("h3", "", "Instructions processed, by kernel"), bars];
}

function longTextsOf(column, row, key) {
  const number = columns[column][key][row];
  return number === undefined ? [] : [number];
}
