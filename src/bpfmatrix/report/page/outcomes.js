// Outcomes: how each is packed, and how it is written, marked and coloured.

import { columns, detailAt } from "./report.js";

/** By the outcome's letter in page_data.py. The word is also its class in report.css. */
export const OUTCOMES = {
  p: { word: "passed", mark: "✓" },
  f: { word: "failed", mark: "✗" },
  s: { word: "skipped", mark: "–" },
  t: { word: "timeout", mark: "T" },
  k: { word: "panic", mark: "P" },
  l: { word: "lost", mark: "L" },
  e: { word: "error", mark: "E" },
  i: { word: "interrupted", mark: "I" },
};

export const PASSED = "p";
const NOT_RUN = ".";

/** The letter of a cell's outcome. */
export function outcomeAt(column, row) {
  return columns[column].cells[row];
}

export function isRun(column, row) {
  return outcomeAt(column, row) !== NOT_RUN;
}

/** The class that colours a cell. One that was expected to fail has a colour of its own. */
export function outcomeClass(column, row) {
  const { word } = OUTCOMES[outcomeAt(column, row)];
  return word !== "skipped" && detailAt(column, row, "expected") ? "expected" : word;
}

export function outcomeText(column, row) {
  if (!isRun(column, row)) return "not run";
  const { word } = OUTCOMES[outcomeAt(column, row)];
  if (!detailAt(column, row, "expected")) return word;
  return word === "passed" ? "passed unexpectedly" : `${word} as expected`;
}

/** How many cells of these columns have each outcome, as a map from its letter. */
export function countOutcomes(someColumns) {
  const counts = new Map();
  for (const column of someColumns) {
    for (const letter of column.cells) {
      if (letter !== NOT_RUN) counts.set(letter, (counts.get(letter) ?? 0) + 1);
    }
  }
  return counts;
}
