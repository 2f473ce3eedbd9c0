// The panel at the side: all about one cell, about one row on all kernels, or about one kernel.

import { describeCell } from "./cell.js";
import { byId, createButton, createElement } from "./dom.js";
import { countOutcomes, isRun, OUTCOMES } from "./outcomes.js";
import { createBadge, createLink, createList, createTexts } from "./parts.js";
import { columns, detailAt, rows } from "./report.js";
import { state, writeAddress } from "./state.js";

export const panel = byId("panel");

export function setUpPanel() {
  panel.addEventListener("close", () => {
    state.panel = null;
    writeAddress();
  });
  panel.addEventListener("click", (event) => {
    // A click on the dialog itself, and on nothing in it, is one on the backdrop.
    if (event.target === panel) panel.close();
    const link = event.target.closest("button.to");
    if (link) openPanel(numberOf(link.dataset.column), numberOf(link.dataset.row));
  });
}

function numberOf(text) {
  return text === undefined ? null : Number(text);
}

/** Show a cell; a row on all kernels if `column` is null, and the kernel if `row` is null. */
export function openPanel(column, row) {
  state.panel = { column, row };
  writeAddress();
  const close = createButton("close", "Close");
  close.onclick = () => panel.close();
  const name = row === null ? columns[column].label : rows[row].name || "(no name)";
  const title = createElement("h2", "", name);
  title.id = "panel-title";
  byId("inside").replaceChildren(close, title, ...describe(column, row));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  close.focus();
}

function describe(column, row) {
  if (column === null) return describeRow(row);
  const about = row === null ? describeKernel(columns[column]) : describeCell(column, row);
  return [...about, ...createTexts("Console", columns[column].consoles)];
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

function describeRow(row) {
  const list = createElement("ul", "by-kernel");
  for (const [column, { label }] of columns.entries()) {
    const item = createElement("li");
    item.append(
      isRun(column, row) ? createLink("", label, column, row) : createElement("span", "", label),
      createBadge(column, row),
      createElement("span", "reason", detailAt(column, row, "reason")),
    );
    list.append(item);
  }
  return [
    createElement("p", "sub", rows[row].group.name),
    ...(rows[row].facts.length ? [createList(rows[row].facts)] : []),
    createElement("h3", "", "On each kernel"),
    list,
  ];
}
