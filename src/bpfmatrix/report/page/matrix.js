// The matrix. Only the lines in sight are in the document, so that thousands of rows cost nothing.

import { byId, createButton, createElement } from "./dom.js";
import { filterColumns, filterRows } from "./filter.js";
import { createLine, LINE_HEIGHT } from "./line.js";
import { clamp } from "./numbers.js";
import { OUTCOMES } from "./outcomes.js";
import { openPanel } from "./panel.js";
import { columns, rows } from "./report.js";
import { state } from "./state.js";

export const grid = byId("grid");

/** What passes the filters, and the elements of the lines that are in the document. */
export const matrix = {
  columns: [],
  lines: [], // {group} for a heading, {row} for a row
  elements: new Map(), // by a line's index
  body: null,
};

/** The one cell that the Tab key leads to: the index of its line, and its position there. */
export const cursor = { line: 0, position: 0 };

export function setUpMatrix() {
  let isScheduled = false;
  const redraw = () => {
    isScheduled = false;
    draw();
  };
  const schedule = () => {
    if (!isScheduled) requestAnimationFrame(redraw);
    isScheduled = true;
  };
  grid.addEventListener("scroll", schedule, { passive: true });
  addEventListener("resize", layOut);
}

/** Show what the filters let through. */
export function updateMatrix() {
  matrix.columns = filterColumns();
  const found = filterRows(matrix.columns);
  matrix.lines = withHeadings(found);
  const all = `${rows.length} rows`;
  byId("shown").textContent = found.length === rows.length ? all : `${found.length} of ${all}`;
  byId("empty").hidden = found.length > 0;
  grid.hidden = found.length === 0;
  cursor.line = clamp(cursor.line, 0, Math.max(0, matrix.lines.length - 1));
  cursor.position = clamp(cursor.position, 0, Math.max(0, matrix.columns.length - 1));
  layOut();
}

function withHeadings(someRows) {
  const lines = [];
  let group = null;
  for (const row of someRows) {
    if (rows[row].group !== group) {
      group = rows[row].group;
      lines.push({ group });
    }
    lines.push({ row });
  }
  return lines;
}

// ---- layout ---------------------------------------------------------------------------------

function layOut() {
  const main = grid.parentElement;
  const padding = Number.parseFloat(getComputedStyle(main).paddingLeft) * 2;
  const width = main.clientWidth - padding - 20;
  const isPhone = document.body.clientWidth <= 640;
  const nameWidth = isPhone ? 150 : clamp(width * 0.3, 220, 380);
  const leastWidth = state.view === "outcome" ? 26 : 42;
  const share = Math.floor((width - nameWidth) / Math.max(1, matrix.columns.length));
  const columnWidth = clamp(share, leastWidth, 110);
  const fullWidth = nameWidth + columnWidth * matrix.columns.length;
  const fullHeight = matrix.lines.length * LINE_HEIGHT;

  grid.style.setProperty("--name-width", `${nameWidth}px`);
  grid.style.setProperty("--column-width", `${columnWidth}px`);
  grid.classList.toggle("tight", columnWidth < 66);
  grid.setAttribute("aria-rowcount", matrix.lines.length + 1);
  grid.setAttribute("aria-colcount", matrix.columns.length + 1);

  const header = createHeader();
  matrix.body = createElement("div", "body");
  matrix.body.setAttribute("role", "rowgroup");
  matrix.body.style.height = `${fullHeight}px`;
  matrix.body.style.width = `${fullWidth}px`;
  matrix.elements = new Map();
  grid.replaceChildren(header, matrix.body);
  // Leave room for a scroll bar.
  const below = fullWidth > width ? 20 : 4;
  grid.style.height = `${fullHeight + header.offsetHeight + below}px`;
  grid.style.width = `${fullWidth + 20}px`;
  draw();
}

function createHeader() {
  const header = createElement("div", "header");
  header.setAttribute("role", "row");
  const corner = createElement("div", "corner");
  corner.setAttribute("role", "columnheader");
  corner.setAttribute("aria-label", "name");
  header.append(corner, ...matrix.columns.map(createKernelButton));
  return header;
}

function createKernelButton(column) {
  const { label, outcome } = columns[column];
  const { word } = OUTCOMES[outcome];
  const button = createButton("kernel");
  button.setAttribute("role", "columnheader");
  button.setAttribute("aria-label", `${label}: ${word}`);
  button.title = label;
  button.append(createElement("span", "text", label), createElement("span", `bar ${word}`));
  button.onclick = () => openPanel(column, null);
  return button;
}

// ---- lines ----------------------------------------------------------------------------------

/** Bring the lines in sight into the document, and remove those that are not. */
export function draw() {
  const margin = 8; // lines above and below what is in sight
  const bottom = grid.scrollTop + grid.clientHeight;
  const first = Math.max(0, Math.floor(grid.scrollTop / LINE_HEIGHT) - margin);
  const end = Math.min(matrix.lines.length, Math.ceil(bottom / LINE_HEIGHT) + margin);
  for (const [index, element] of matrix.elements) {
    const isInSight = index >= first && index < end;
    // Without its element, the keyboard would lose its place.
    if (!isInSight && !element.contains(document.activeElement)) {
      element.remove();
      matrix.elements.delete(index);
    }
  }
  for (let index = first; index < end; index++) drawLine(index);
  if (!tabStop()) setTabStop(matrix.body.querySelector("button.cell"));
}

/** The element of a line, which is drawn if it is not there yet. */
export function drawLine(index) {
  let element = matrix.elements.get(index);
  if (!element) {
    element = createLine(matrix.lines[index], index, matrix.columns);
    matrix.elements.set(index, element);
    matrix.body.append(element);
    if (index === cursor.line) setTabStop(cellAt(cursor.line, cursor.position));
  }
  return element;
}

/** The button of a cell; null if the cell was not run or is not in the document. */
export function cellAt(line, position) {
  return matrix.body.querySelector(`button.cell[data-line="${line}"][data-position="${position}"]`);
}

function tabStop() {
  return matrix.body.querySelector("[tabindex='0']");
}

/** Let the Tab key lead to this cell, and to no other. */
export function setTabStop(cell) {
  if (!cell) return;
  const old = tabStop();
  if (old) old.tabIndex = -1;
  cell.tabIndex = 0;
}
