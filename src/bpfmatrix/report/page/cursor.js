// The mouse and the keyboard in the matrix: which cell has the focus, and opening it.

import { LINE_HEIGHT } from "./line.js";
import { cellAt, cursor, draw, drawLine, grid, matrix, setTabStop } from "./matrix.js";
import { clamp } from "./numbers.js";
import { openPanel, panel } from "./panel.js";

export function setUpCursor() {
  grid.addEventListener("keydown", (event) => {
    const cell = event.target.closest("button.cell");
    if (cell && moveFocus(event, cellPlace(cell))) event.preventDefault();
  });
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (!cell) return;
    Object.assign(cursor, cellPlace(cell));
    openPanel(matrix.columns[cursor.position], matrix.lines[cursor.line].row);
  });
  panel.addEventListener("close", () => {
    cellAt(cursor.line, cursor.position)?.focus({ preventScroll: true });
  });
}

/** Put the cursor on a cell and scroll it into sight. */
export function showCell(column, row) {
  const index = matrix.lines.findIndex((line) => line.row === row);
  if (index < 0) return;
  cursor.line = index;
  cursor.position = matrix.columns.indexOf(column);
  grid.scrollTop = Math.max(0, index * LINE_HEIGHT - grid.clientHeight / 2);
  draw();
}

function cellPlace(cell) {
  return { line: Number(cell.dataset.line), position: Number(cell.dataset.position) };
}

// Whether the key is one that moves the focus.
function moveFocus(event, { line, position }) {
  const page = Math.max(1, Math.floor(grid.clientHeight / LINE_HEIGHT) - 3);
  const lastLine = matrix.lines.length - 1;
  const steps = {
    ArrowDown: [1, 0],
    ArrowUp: [-1, 0],
    ArrowRight: [0, 1],
    ArrowLeft: [0, -1],
    PageDown: [page, 0],
    PageUp: [-page, 0],
  };
  if (Object.hasOwn(steps, event.key)) {
    const [down, right] = steps[event.key];
    focusCell(clamp(line + down, 0, lastLine), position + right, down < 0 ? -1 : 1);
  } else if (event.key === "Home") {
    focusCell(event.ctrlKey ? 0 : line, 0, 1);
  } else if (event.key === "End") {
    focusCell(event.ctrlKey ? lastLine : line, matrix.columns.length - 1, -1);
  } else {
    return false;
  }
  return true;
}

// Focus the cell nearest to a position in a line. A heading has no cells: `direction` says whether
// the line above it (-1) or below it (1) is taken.
function focusCell(line, position, direction) {
  let index = line;
  while (matrix.lines[index]?.group) index += direction;
  if (!matrix.lines[index]) return;
  const element = drawLine(index);
  scrollToLine(index);
  const distance = (cell) => Math.abs(cell.dataset.position - position);
  const [cell] = [...element.querySelectorAll("button.cell")].sort(
    (one, other) => distance(one) - distance(other),
  );
  if (!cell) return;
  setTabStop(cell);
  Object.assign(cursor, cellPlace(cell));
  cell.focus({ preventScroll: true });
  cell.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// The header covers the top of what scrolls.
function scrollToLine(index) {
  const top = index * LINE_HEIGHT;
  const bottom = top + LINE_HEIGHT + grid.firstChild.offsetHeight;
  if (top < grid.scrollTop) {
    grid.scrollTop = top;
  } else if (bottom > grid.scrollTop + grid.clientHeight) {
    grid.scrollTop = bottom - grid.clientHeight;
  }
}
