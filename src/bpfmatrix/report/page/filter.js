// Which columns and rows the filters let through.

import { isRun, outcomeAt } from "./outcomes.js";
import { columns, detailAt, instructions, rows } from "./report.js";
import { state } from "./state.js";

// What the text filter searches in each row, in lower case. It is made when a row is first searched:
// with thousands of rows, the page would open later.
const searchTexts = [];

function searchText(row) {
  searchTexts[row] ??= joinTexts(row).toLowerCase();
  return searchTexts[row];
}

function joinTexts(row) {
  const { group, name } = rows[row];
  const parts = new Set([name, group.name]);
  for (const column of columns.keys()) {
    for (const key of ["reason", "code", "expected", "source"]) {
      parts.add(detailAt(column, row, key));
    }
  }
  return [...parts].join("\n");
}

export function filterColumns() {
  const all = [...columns.keys()];
  return state.kernels.size ? all.filter((column) => state.kernels.has(column)) : all;
}

/** The rows to show where these columns are visible. */
export function filterRows(visibleColumns) {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return [...rows.keys()].filter(
    (row) =>
      words.every((word) => searchText(row).includes(word)) &&
      isInView(row) &&
      passesOutcomes(row, visibleColumns),
  );
}

// The view of instructions shows programs only: tests have none.
function isInView(row) {
  return state.view !== "insns" || instructions.some((column) => column[row] !== null);
}

function passesOutcomes(row, visibleColumns) {
  if (state.kernels.size && !visibleColumns.some((column) => isRun(column, row))) return false;
  const outcomes = new Set(visibleColumns.map((column) => outcomeAt(column, row)));
  const isWanted = [...outcomes].some((letter) => state.outcomes.has(letter));
  if (state.outcomes.size && !isWanted) return false;
  return !state.onlyDifferences || outcomes.size > 1;
}
