// One line of the matrix: the heading of a group, or a row with its cells.

import { createButton, createElement, createName } from "./dom.js";
import { clamp, duration, shortCount } from "./numbers.js";
import { isRun, OUTCOMES, outcomeAt, outcomeClass, outcomeText, PASSED } from "./outcomes.js";
import { columns, detailAt, instructions, rows } from "./report.js";
import { state } from "./state.js";

/**
 * The element of a line, which is `{group}` for a heading and `{row}` for a row. `index` is its
 * position in the matrix, `height` that of each line in pixels.
 */
export function createLine(line, index, height, visibleColumns) {
  const element = createElement("div", "row");
  element.setAttribute("role", "row");
  element.setAttribute("aria-rowindex", index + 2); // the header is 1
  element.style.top = `${index * height}px`;
  if (line.group) {
    element.append(createHeading(line.group));
    return element;
  }
  const cells = createElement("div", "cells");
  cells.setAttribute("role", "presentation");
  cells.append(...createCells(line.row, index, visibleColumns));
  element.append(createRowName(line.row, index), cells);
  return element;
}

function createRowName(row, index) {
  const { group, name } = rows[row];
  const header = createElement("div", "name");
  header.setAttribute("role", "rowheader");
  const button = createButton("place");
  button.append(...createName(name || "(no name)"));
  button.title = `${name}\n${group.name}`;
  button.setAttribute("aria-label", `${name || "(no name)"}, ${group.name}`);
  button.tabIndex = -1;
  button.dataset.line = index;
  button.dataset.position = -1;
  header.append(button);
  return header;
}

function createHeading(group) {
  const kind = group.isProgram ? "programs" : "tests";
  const heading = createElement("div", "name group");
  heading.setAttribute("role", "rowheader");
  heading.append(...createName(group.name || kind), createElement("small", "", kind));
  heading.title = group.name;
  return heading;
}

function createCells(row, index, visibleColumns) {
  const numbers = visibleColumns.map((column) => numberAt(column, row));
  const positive = numbers.filter((number) => number > 0);
  const low = Math.min(...positive);
  // At least a factor of four, so that a small difference does not look like a large one.
  const high = Math.max(...positive, low * 4);
  return visibleColumns.map((column, position) => {
    if (!isRun(column, row)) return createEmptyCell();
    const cell = createElement("div", "cell");
    cell.setAttribute("role", "gridcell");
    const button = createCell(column, row, numbers[position], (number) => heat(number, low, high));
    button.dataset.line = index;
    button.dataset.position = position;
    cell.append(button);
    return cell;
  });
}

function createEmptyCell() {
  const cell = createElement("div", "cell");
  cell.setAttribute("role", "gridcell");
  cell.setAttribute("aria-label", "not run");
  cell.title = "not run on this kernel";
  return cell;
}

function createCell(column, row, number, heatOf) {
  const cell = createButton("place");
  const content = createElement("span");
  const isExpected = detailAt(column, row, "expected") !== "";
  let numberText = "";
  if (number === null) {
    const star = isExpected && state.view === "outcome" ? "*" : "";
    content.className = outcomeClass(column, row);
    content.textContent = OUTCOMES[outcomeAt(column, row)].mark + star;
  } else {
    numberText = state.view === "time" ? duration(number) : shortCount(number);
    content.textContent = numberText;
    if (outcomeAt(column, row) === PASSED) {
      content.style.background = `rgba(var(--heat), ${heatOf(number).toFixed(2)})`;
    } else {
      content.className = outcomeClass(column, row);
    }
  }
  cell.append(content);
  cell.classList.toggle("number", state.view !== "outcome");
  cell.tabIndex = -1;
  const { label } = columns[column];
  const text = outcomeText(column, row);
  // Tests of two packages may have the same name.
  const { name, group } = rows[row];
  const parts = [`${name}, ${group.name}, ${label}: ${text}`, numberText];
  cell.setAttribute("aria-label", parts.filter(Boolean).join(", "));
  const reason = detailAt(column, row, "expected") || detailAt(column, row, "reason");
  cell.title = [label, text, reason].filter(Boolean).join(": ");
  return cell;
}

// The number that this view shows; null where it shows the outcome. The instructions until a program
// was rejected say nothing about its cost.
function numberAt(column, row) {
  if (!isRun(column, row)) return null;
  if (state.view === "time") return columns[column].ms[row];
  if (state.view === "insns" && outcomeAt(column, row) === PASSED) return instructions[column][row];
  return null;
}

// The opacity of a number's background, on a logarithmic scale.
function heat(number, low, high) {
  const part = high > low ? Math.log(number / low + 1e-9) / Math.log(high / low) : 0;
  return 0.08 + 0.37 * clamp(part, 0, 1);
}
