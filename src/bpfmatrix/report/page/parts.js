// Parts of the panel: lists of facts, long texts, and buttons that lead to other results.

import { createButton, createElement } from "./dom.js";
import { isRun, outcomeClass, outcomeText } from "./outcomes.js";
import { longText } from "./report.js";

/** A list of facts, each with a name and a value. */
export function createList(facts) {
  const list = createElement("dl");
  for (const [name, value] of facts) {
    list.append(createElement("dt", "", name), createElement("dd", "", String(value)));
  }
  return list;
}

/** Long texts by their numbers, each under the same title. Each is filled in when it is unpacked. */
export function createTexts(title, numbers) {
  return numbers.flatMap((number) => {
    const block = createElement("pre", "", "…");
    block.tabIndex = 0;
    block.setAttribute("role", "region");
    block.setAttribute("aria-label", title);
    longText(number).then((text) => {
      block.replaceChildren(...createLines(text));
      block.dataset.ready = "1";
    });
    return [createElement("h3", "", title), block];
  });
}

// A line of source in an explanation, such as `bpf/a.bpf.c:58  return *count;`. failure_items.py
// has the same expression.
const SOURCE_LINE = /^(\S+:\d+)(\s{2,}.*)$/;
const MOST_LINES = 2000; // in longer texts, no line is marked

function createLines(text) {
  const lines = text.split("\n");
  if (lines.length > MOST_LINES || !lines.some((line) => SOURCE_LINE.test(line))) return [text];
  return lines.flatMap((line) => [createLogLine(line), "\n"]);
}

function createLogLine(text) {
  const [, path, code] = text.match(SOURCE_LINE) ?? [];
  if (!path) return text;
  const line = createElement("span", "c");
  const place = createElement("span", "place-in-source", path.split("/").at(-1));
  place.title = path;
  line.append(place, code);
  return line;
}

/** A button for a result that the panel shows when it is clicked: see `setUpPanel`. */
export function createLink(className, text, column, row) {
  const button = createButton(`to ${className}`, text);
  if (column !== null) button.dataset.column = column;
  if (row !== null) button.dataset.row = row;
  return button;
}

/** The outcome of a cell, in its colour. */
export function createBadge(column, row) {
  const style = isRun(column, row) ? outcomeClass(column, row) : "skipped";
  return createElement("span", `badge ${style}`, outcomeText(column, row));
}
