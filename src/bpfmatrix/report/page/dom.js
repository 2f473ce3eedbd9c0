// Shorthands for the document. Text of a result is only ever set as text, never as HTML.

// What needs the script is hidden without it: see `.scripted` in report.css.
document.documentElement.classList.add("js");

export function byId(id) {
  return document.getElementById(id);
}

export function createElement(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function createButton(className = "", text = "") {
  const button = createElement("button", className, text);
  button.type = "button";
  return button;
}

const LONGEST_END = 16;

/**
 * The two parts of a name. Where there is too little room, the first one loses its end, so that the
 * middle of the name is left out.
 */
export function createName(text) {
  const end = Math.min(LONGEST_END, Math.floor(text.length / 2));
  const at = text.length - end;
  return [
    createElement("span", "begin", text.slice(0, at)),
    createElement("span", "end", text.slice(at)),
  ];
}
