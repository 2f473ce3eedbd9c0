// The mouse and the keyboard in the matrix: which button has the focus, and opening what it names.

import { buttonAt, cursor, draw, drawLine, grid, matrix, setTabStop } from "./matrix.js";
import { clamp } from "./numbers.js";
import { openPanel, panel } from "./panel.js";

export function setUpCursor() {
  grid.addEventListener("keydown", (event) => {
    const button = event.target.closest(".place");
    if (button && moveFocus(event, placeOf(button))) event.preventDefault();
  });
  grid.addEventListener("click", (event) => {
    const button = event.target.closest(".place");
    if (!button) return;
    Object.assign(cursor, placeOf(button));
    setTabStop(button);
    const { line, position } = cursor;
    openPanel(matrix.columns[position] ?? null, matrix.lines[line]?.row ?? null);
  });
  panel.addEventListener("close", () => {
    buttonAt(cursor.line, cursor.position)?.focus({ preventScroll: true });
  });
}

/** Put the cursor on a cell, or on the name of a row, and scroll it into sight. */
export function showCell(column, row) {
  const index = matrix.lines.findIndex((line) => line.row === row);
  if (index < 0) return;
  cursor.line = index;
  cursor.position = column === null ? -1 : matrix.columns.indexOf(column);
  grid.scrollTop = Math.max(0, index * matrix.lineHeight - grid.clientHeight / 2);
  draw();
}

function placeOf(button) {
  return { line: Number(button.dataset.line), position: Number(button.dataset.position) };
}

// Whether the key is one that moves the focus.
function moveFocus(event, { line, position }) {
  const page = Math.max(1, Math.floor(grid.clientHeight / matrix.lineHeight) - 3);
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
    focusPlace(clamp(line + down, -1, lastLine), position + right, down < 0 ? -1 : 1);
  } else if (event.key === "Home") {
    focusPlace(event.ctrlKey ? 0 : line, 0, 1);
  } else if (event.key === "End") {
    focusPlace(event.ctrlKey ? lastLine : line, matrix.columns.length - 1, -1);
  } else {
    return false;
  }
  return true;
}

// Focus the button nearest to a position in a line. A heading has no buttons: `direction` says
// whether the line above it (-1) or below it (1) is taken. The header is above all lines.
function focusPlace(line, position, direction) {
  let index = line;
  while (matrix.lines[index]?.group) index += direction;
  const isHeader = index < 0;
  if (!isHeader && !matrix.lines[index]) return;
  const element = isHeader ? grid.firstChild : drawLine(index);
  if (!isHeader) scrollToLine(index);
  const distance = (button) => Math.abs(button.dataset.position - position);
  const [button] = [...element.querySelectorAll(".place")].sort(
    (one, other) => distance(one) - distance(other),
  );
  if (!button) return;
  setTabStop(button);
  Object.assign(cursor, placeOf(button));
  button.focus({ preventScroll: true });
  button.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// The header covers the top of what scrolls.
function scrollToLine(index) {
  const top = index * matrix.lineHeight;
  const bottom = top + matrix.lineHeight + grid.firstChild.offsetHeight;
  if (top < grid.scrollTop) {
    grid.scrollTop = top;
  } else if (bottom > grid.scrollTop + grid.clientHeight) {
    grid.scrollTop = bottom - grid.clientHeight;
  }
}
