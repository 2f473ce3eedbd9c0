// What is above the matrix: the filters, the choice of a view, and the button for the colours.

import { byId, createButton, createElement } from "./dom.js";
import { updateMatrix } from "./matrix.js";
import { fullCount } from "./numbers.js";
import { countOutcomes, OUTCOMES } from "./outcomes.js";
import { panel } from "./panel.js";
import { columns, instructions } from "./report.js";
import { resetFilters, state, toggle, writeAddress } from "./state.js";

const THEMES = ["", "light", "dark"]; // empty: the theme of the system

const kernelMenu = byId("kernels");
const textFilter = byId("text");
const viewChoice = byId("view");

export function setUpControls() {
  addOutcomeButtons();
  addKernelBoxes();
  if (instructions) viewChoice.append(new Option("instructions", "insns"));
  viewChoice.append(new Option("time", "time"));

  textFilter.oninput = () => {
    state.text = textFilter.value;
    update();
  };
  byId("differ").onchange = (event) => {
    state.onlyDifferences = event.target.checked;
    update();
  };
  viewChoice.onchange = () => {
    state.view = viewChoice.value;
    update();
  };
  byId("reset").onclick = () => {
    resetFilters();
    update();
  };
  byId("theme").onclick = switchTheme;
  document.addEventListener("click", (event) => {
    if (!kernelMenu.contains(event.target)) kernelMenu.open = false;
  });
  document.addEventListener("keydown", handleKey);
  byId("filters").hidden = false;
}

/** Make the controls show the state. */
export function updateControls() {
  // Setting an equal value would still move the text cursor.
  if (textFilter.value !== state.text) textFilter.value = state.text;
  byId("differ").checked = state.onlyDifferences;
  viewChoice.value = state.view;
  for (const button of byId("outcomes").children) {
    button.setAttribute("aria-pressed", state.outcomes.has(button.dataset.letter));
  }
  for (const [column, box] of kernelMenu.querySelectorAll("input").entries()) {
    box.checked = state.kernels.has(column);
  }
  kernelMenu.querySelector("b").textContent = state.kernels.size || "";
}

// Show a changed state.
function update() {
  updateControls();
  writeAddress();
  updateMatrix();
}

function addOutcomeButtons() {
  const counts = countOutcomes(columns);
  for (const [letter, { word }] of Object.entries(OUTCOMES)) {
    if (!counts.has(letter)) continue;
    const button = createButton();
    button.dataset.letter = letter;
    button.append(createElement("i", word), `${word} ${fullCount(counts.get(letter))}`);
    button.onclick = () => {
      toggle(state.outcomes, letter);
      update();
    };
    byId("outcomes").append(button);
  }
}

function addKernelBoxes() {
  for (const [column, { label }] of columns.entries()) {
    const box = createElement("input");
    box.type = "checkbox";
    box.onchange = () => {
      toggle(state.kernels, column);
      update();
    };
    const boxLabel = createElement("label");
    boxLabel.append(box, label);
    kernelMenu.querySelector(".menu").append(boxLabel);
  }
}

function handleKey(event) {
  if (event.key === "Escape" && kernelMenu.open) {
    kernelMenu.open = false;
    kernelMenu.querySelector("summary").focus();
  }
  if (event.key === "/" && !panel.open && document.activeElement !== textFilter) {
    event.preventDefault();
    textFilter.focus();
  }
}

function switchTheme() {
  const { dataset } = document.documentElement;
  const next = THEMES[(THEMES.indexOf(dataset.theme ?? "") + 1) % THEMES.length];
  if (next) {
    dataset.theme = next;
  } else {
    delete dataset.theme;
  }
  byId("theme").setAttribute("aria-label", `Colours: ${next || "same as the system"}`);
}
