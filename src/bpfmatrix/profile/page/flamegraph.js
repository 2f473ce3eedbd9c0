// The script of a flame graph: it fits the graph to the window, zooms into a box, and searches.
// Without it the graph is a picture.

const FIRST_ROW = 72;
const ROW_HEIGHT = 18;
const PADDING = 4;
const OUTER_ROWS = 3; // above the box that is zoomed into, the first of them being that of all samples
const NARROWEST_PIXELS = 0.3;
const HTML = "http://www.w3.org/1999/xhtml";

const page = document.documentElement;
const group = document.getElementById("boxes");
const note = document.getElementById("note");
const initialNote = `${note.textContent} A click zooms in.`;
const pen = document.createElementNS(HTML, "canvas").getContext("2d");
pen.font = "11px monospace";

const boxes = Array.from(group.children, (element, number) => {
  const label = element.lastElementChild;
  return {
    number,
    element,
    label,
    left: Number.parseFloat(element.getAttribute("x")),
    width: Number.parseFloat(element.getAttribute("width")),
    row: (Number(element.getAttribute("y")) - FIRST_ROW) / ROW_HEIGHT,
    name: label.dataset.full ?? label.textContent,
    title: element.firstElementChild.textContent,
  };
});
let zoomed = boxes[0];
let told = null;

// Percentages have five decimals.
const isInside = (inner, outer) =>
  inner.left >= outer.left - 2e-5 && inner.left + inner.width <= outer.left + outer.width + 2e-5;

function cut(name, pixels) {
  if (pen.measureText(name).width <= pixels) {
    return name;
  }
  const letters = Array.from(name);
  let [fitting, most] = [0, letters.length];
  while (fitting < most) {
    const middle = Math.ceil((fitting + most) / 2);
    if (pen.measureText(`${letters.slice(0, middle).join("")}…`).width <= pixels) {
      fitting = middle;
    } else {
      most = middle - 1;
    }
  }
  return fitting < 2 ? "" : `${letters.slice(0, fitting).join("")}…`;
}

// Returns the row in which a box is drawn, or -1.
function rowOf(box) {
  if (box.row >= zoomed.row) {
    return isInside(box, zoomed) ? box.row - zoomed.row + Math.min(zoomed.row, OUTER_ROWS) : -1;
  }
  if (box.row === 0) {
    return 0;
  }
  const row = OUTER_ROWS - (zoomed.row - box.row);
  const near = zoomed.row <= OUTER_ROWS ? box.row : row;
  return near > 0 && isInside(zoomed, box) ? near : -1;
}

function place(box, row, windowPixels) {
  const isOuter = box.row < zoomed.row;
  const left = isOuter ? 0 : ((box.left - zoomed.left) / zoomed.width) * 100;
  const width = isOuter ? 100 : (box.width / zoomed.width) * 100;
  const pixels = (width / 100) * windowPixels;
  const isShown = row >= 0 && pixels >= NARROWEST_PIXELS;
  box.element.style.display = isShown ? "" : "none";
  if (!isShown) {
    return false;
  }
  box.element.setAttribute("x", `${left}%`);
  box.element.setAttribute("width", `${width}%`);
  box.element.setAttribute("y", FIRST_ROW + row * ROW_HEIGHT);
  box.element.classList.toggle("outer", isOuter);
  box.label.textContent = cut(box.name, pixels - 2 * PADDING);
  return true;
}

function draw() {
  const windowPixels = page.clientWidth || window.innerWidth;
  let rows = 0;
  for (const box of boxes) {
    const row = rowOf(box);
    if (place(box, row, windowPixels)) {
      rows = Math.max(rows, row + 1);
    }
  }
  page.setAttribute("height", FIRST_ROW + (rows + 1) * ROW_HEIGHT);
  note.textContent = zoomed.row ? zoomed.title : initialNote;
}

// The address keeps the box, so that the browser's Back leads out of it.
function zoomByAddress() {
  zoomed = boxes[Number(window.location.hash.slice(1))] ?? boxes[0];
  draw();
  window.scrollTo(0, 0);
}

function search(text) {
  const wanted = text.trim().toLowerCase();
  const found = boxes.filter((box) => {
    const isFound = wanted !== "" && box.row > 0 && box.title.toLowerCase().includes(wanted);
    box.element.classList.toggle("found", isFound);
    return isFound;
  });
  group.classList.toggle("searched", wanted !== "");
  // A sample counts once, although several boxes of its stack may be found.
  let [percent, end] = [0, 0];
  for (const box of found.sort((a, b) => a.left - b.left)) {
    const right = box.left + box.width;
    percent += Math.max(0, right - Math.max(end, box.left));
    end = Math.max(end, right);
  }
  told.textContent = wanted === "" ? "" : `in ${percent.toFixed(1)}% of all samples`;
}

function addControls() {
  const outside = document.createElementNS(page.namespaceURI, "foreignObject");
  for (const [name, value] of Object.entries({ y: 46, width: "100%", height: 26 })) {
    outside.setAttribute(name, value);
  }
  const controls = document.createElementNS(HTML, "div");
  controls.className = "controls";
  const input = document.createElementNS(HTML, "input");
  input.type = "search";
  input.placeholder = "Search";
  input.setAttribute("aria-label", "Search functions and files");
  input.addEventListener("input", () => search(input.value));
  const whole = document.createElementNS(HTML, "button");
  whole.type = "button";
  whole.textContent = "Whole graph";
  whole.addEventListener("click", () => {
    window.location.hash = "";
  });
  told = document.createElementNS(HTML, "output");
  controls.append(input, whole, told);
  outside.append(controls);
  page.append(outside);
}

function start() {
  page.removeAttribute("viewBox");
  page.setAttribute("width", "100%");
  addControls();
  group.addEventListener("click", (event) => {
    const element = event.target.closest("#boxes > svg");
    const box = boxes.find((candidate) => candidate.element === element);
    if (box) {
      window.location.hash = box.row ? box.number : "";
    }
  });
  window.addEventListener("hashchange", zoomByAddress);
  window.addEventListener("resize", draw);
  zoomByAddress();
}

start();
