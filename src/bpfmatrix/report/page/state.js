// What the reader chose: the filters, the view, and what the panel shows. The address of the page
// holds all of it, so that a copied link opens the same view.

import { OUTCOMES } from "./outcomes.js";
import { columns, instructions, rows } from "./report.js";

const VIEWS = ["outcome", "time", ...(instructions ? ["insns"] : [])];

export const state = {
  text: "",
  outcomes: new Set(), // letters; all if empty
  kernels: new Set(), // columns; all if empty
  onlyDifferences: false,
  view: "outcome",
  panel: null, // {column, row}; one of them is null if the panel shows a kernel, or a row
};

export function resetFilters() {
  state.text = "";
  state.outcomes = new Set();
  state.kernels = new Set();
  state.onlyDifferences = false;
  state.view = "outcome";
}

/** Add a value to a set, or remove it if the set has it. */
export function toggle(set, value) {
  if (!set.delete(value)) set.add(value);
}

export function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  state.text = words.get("q") ?? "";
  state.outcomes = new Set([...(words.get("o") ?? "")].filter((letter) => OUTCOMES[letter]));
  state.kernels = new Set(
    words
      .getAll("k")
      .map(findKernel)
      .filter((column) => column >= 0),
  );
  state.onlyDifferences = words.has("differ");
  state.view = VIEWS.includes(words.get("view")) ? words.get("view") : "outcome";
  state.panel = readPanel(words);
}

function readPanel(words) {
  const found = findKernel(words.get("kernel"));
  const column = found < 0 ? null : found;
  if (words.has("kernel") && column === null) return null;
  if (!words.has("name")) return column === null ? null : { column, row: null };
  const isProgram = words.get("kind") === "1";
  const row = rows.findIndex(
    ({ group, name }) =>
      name === words.get("name") &&
      group.name === words.get("group") &&
      group.isProgram === isProgram,
  );
  return row < 0 ? null : { column, row };
}

function findKernel(label) {
  return columns.findIndex((column) => column.label === label);
}

export function writeAddress() {
  const words = new URLSearchParams();
  if (state.text) words.set("q", state.text);
  if (state.outcomes.size) words.set("o", [...state.outcomes].join(""));
  for (const column of state.kernels) words.append("k", columns[column].label);
  if (state.onlyDifferences) words.set("differ", "1");
  if (state.view !== "outcome") words.set("view", state.view);
  if (state.panel) writePanel(words);
  const hash = String(words) ? `#${words}` : "";
  if (location.hash !== hash) {
    history.replaceState(null, "", hash || location.pathname + location.search);
  }
}

function writePanel(words) {
  const { column, row } = state.panel;
  if (column !== null) words.set("kernel", columns[column].label);
  if (row === null) return;
  const { group, name } = rows[row];
  words.set("kind", group.isProgram ? "1" : "0");
  words.set("group", group.name);
  words.set("name", name);
}
