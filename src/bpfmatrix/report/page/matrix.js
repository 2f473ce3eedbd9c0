// The matrix. Only the lines in sight are in the document, so that thousands of rows cost nothing.

import { byId, createButton, createElement } from "./dom.js";
import { filterColumns, filterRows } from "./filter.js";
import { createLine } from "./line.js";
import { clamp } from "./numbers.js";
import { OUTCOMES } from "./outcomes.js";
import { columns, rows } from "./report.js";
import { state } from "./state.js";

export const grid = byId("grid");

// In pixels. On a narrow screen, the cells of a row are below its name; report.css has the same.
const LINE_HEIGHT = 28;
const STACKED_LINE_HEIGHT = 52;
const NARROW = 640;
const CHARACTER_WIDTH = 8; // of a kernel's label, at most

/** What passes the filters, and the elements of the lines that are in the document. */
export const matrix = {
  columns: [],
  lines: [], // {group} for a heading, {row} for a row
  elements: new Map(), // by a line's index
  body: null,
  lineHeight: LINE_HEIGHT,
};

/**
 * The one place that the Tab key leads to: the index of its line (-1: the header), and its position
 * there (-1: the name of the row).
 */
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
  cursor.line = clamp(cursor.line, -1, Math.max(0, matrix.lines.length - 1));
  cursor.position = clamp(cursor.position, -1, Math.max(0, matrix.columns.length - 1));
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
  const width = grid.parentElement.clientWidth;
  const isStacked = document.body.clientWidth <= NARROW;
  const nameWidth = isStacked ? 0 : clamp(width * 0.3, 220, 420);
  const columnWidth = widthOfColumns(width - nameWidth - 20);
  const fullWidth = Math.max(
    nameWidth + columnWidth * matrix.columns.length,
    isStacked ? width - 4 : 0,
  );
  matrix.lineHeight = isStacked ? STACKED_LINE_HEIGHT : LINE_HEIGHT;
  const fullHeight = matrix.lines.length * matrix.lineHeight;

  grid.style.setProperty(
    "--name-width",
    `${isStacked ? Math.min(fullWidth, width - 4) : nameWidth}px`,
  );
  grid.style.setProperty("--column-width", `${columnWidth}px`);
  grid.classList.toggle("stacked", isStacked);
  grid.classList.toggle("upright", columnWidth < labelWidth());
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
  grid.style.width = isStacked ? "100%" : `${fullWidth + 20}px`;
  draw();
}

// The width of the longest word of a kernel's label: a label of two words has two lines.
function labelWidth() {
  const words = matrix.columns.flatMap((column) => columns[column].label.split(" "));
  return Math.max(...words.map((word) => word.length)) * CHARACTER_WIDTH + 6;
}

function widthOfColumns(room) {
  const share = Math.floor(room / Math.max(1, matrix.columns.length));
  const hasTwoLines = matrix.columns.some((column) => columns[column].label.includes(" "));
  const least = Math.max(state.view === "outcome" ? 26 : 42, hasTwoLines ? 34 : 0);
  const whole = labelWidth();
  return share >= whole ? clamp(share, whole, Math.max(whole, 110)) : clamp(share, least, 56);
}

function createHeader() {
  const header = createElement("div", "header");
  header.setAttribute("role", "row");
  const corner = createElement("div", "corner", "name");
  corner.setAttribute("role", "columnheader");
  header.append(corner, ...matrix.columns.map(createKernel));
  return header;
}

function createKernel(column, position) {
  const { label, outcome } = columns[column];
  const { word } = OUTCOMES[outcome];
  const header = createElement("div", "kernel");
  header.setAttribute("role", "columnheader");
  const button = createButton("place");
  button.setAttribute("aria-label", `${label}: ${word}`);
  button.title = `${label}: ${word}`;
  button.tabIndex = -1;
  button.dataset.line = -1;
  button.dataset.position = position;
  button.append(
    createElement("span", "text", label.replace(" ", "\n")),
    createElement("span", `bar ${word}`),
  );
  header.append(button);
  return header;
}

// ---- lines ----------------------------------------------------------------------------------

/** Bring the lines in sight into the document, and remove those that are not. */
export function draw() {
  const margin = 8; // lines above and below what is in sight
  const bottom = grid.scrollTop + grid.clientHeight;
  const first = Math.max(0, Math.floor(grid.scrollTop / matrix.lineHeight) - margin);
  const end = Math.min(matrix.lines.length, Math.ceil(bottom / matrix.lineHeight) + margin);
  for (const [index, element] of matrix.elements) {
    const isInSight = index >= first && index < end;
    // Without its element, the keyboard would lose its place.
    if (!isInSight && !element.contains(document.activeElement)) {
      element.remove();
      matrix.elements.delete(index);
    }
  }
  for (let index = first; index < end; index++) drawLine(index);
  if (!tabStop()) setTabStop(matrix.body.querySelector(".cell .place"));
}

/** The element of a line, which is drawn if it is not there yet. */
export function drawLine(index) {
  let element = matrix.elements.get(index);
  if (!element) {
    element = createLine(matrix.lines[index], index, matrix.lineHeight, matrix.columns);
    matrix.elements.set(index, element);
    matrix.body.append(element);
    if (index === cursor.line) setTabStop(buttonAt(cursor.line, cursor.position));
  }
  return element;
}

/** The button at a place; null if the cell was not run or is not in the document. */
export function buttonAt(line, position) {
  return grid.querySelector(`.place[data-line="${line}"][data-position="${position}"]`);
}

function tabStop() {
  return grid.querySelector("[tabindex='0']");
}

/** Let the Tab key lead to this button, and to no other of the matrix. */
export function setTabStop(button) {
  if (!button) return;
  const old = tabStop();
  if (old) old.tabIndex = -1;
  button.tabIndex = 0;
}
